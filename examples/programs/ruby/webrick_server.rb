# WEBrick.   PORT=3000 pmr start webrick_server.rb -i 4
require "webrick"

server = WEBrick::HTTPServer.new(Port: ENV.fetch("PORT", "3000").to_i, AccessLog: [])
server.mount_proc("/") do |request, response|
  sleep 0.03 if request.path == "/work"
  response.body = "#{Process.pid}\n"
end
trap("INT") { server.shutdown }
server.start
