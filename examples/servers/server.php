<?php
// A plain web page.   pmr start php -i 4 -- -S 127.0.0.1:3000 examples/servers/server.php
echo getmypid(), "\n";
