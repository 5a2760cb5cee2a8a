# A plain web server; it knows nothing of clusters.   PORT=3000 pmr start examples/servers/server.rb -i 4
require 'socket'

server = TCPServer.new('127.0.0.1', Integer(ENV.fetch('PORT', '3000')))
loop do
  Thread.new(server.accept) do |client|
    nil until ["\r\n", nil].include?(client.gets)
    body = "#{Process.pid}\n"
    client.write "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: #{body.bytesize}\r\n\r\n#{body}"
  rescue SystemCallError
    nil # the client has hung up
  ensure
    client.close
  end
end
