# A thread for each connection.
require 'socket'

server = TCPServer.new('127.0.0.1', ENV['PORT'].to_i)
loop do
  Thread.new(server.accept) do |client|
    while (line = client.gets)
      nil until client.gets.to_s.strip.empty?
      sleep 0.03 if line.include?('/work')
      body = "#{Process.pid}\n"
      client.write("HTTP/1.1 200 OK\r\nContent-Length: #{body.size}\r\n\r\n#{body}")
    end
    client.close
  rescue SystemCallError
    nil
  end
end
