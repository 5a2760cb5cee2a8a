# What Puma serves.   pmr start puma -i 4 -- --bind tcp://127.0.0.1:3000
run lambda { |env|
  sleep 0.03 if env["PATH_INFO"] == "/work"
  body = "#{Process.pid}\n"
  [200, { "content-type" => "text/plain", "content-length" => body.bytesize.to_s }, [body]]
}
