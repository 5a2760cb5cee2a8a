# A server with a thread for each connection.
require 'socket'

server = TCPServer.new('127.0.0.1', ENV['PORT'].to_i)
loop do
  Thread.new(server.accept) do |client|
    while (line = client.gets)
      headers = []
      headers << client.gets.to_s.strip.downcase until headers.last == ''
      sleep 0.03 if line.include?('/work')
      body = "#{Process.pid}\n"
      client.write("HTTP/1.1 200 OK\r\nContent-Length: #{body.size}\r\n\r\n#{body}")
      break if headers.include?('connection: close')
    end
    client.close
  rescue SystemCallError
    nil
  end
end
