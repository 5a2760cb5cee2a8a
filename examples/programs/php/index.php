<?php
// PHP's own server.   pmr start php -i 4 -- -S 127.0.0.1:3000 index.php
if ($_SERVER['REQUEST_URI'] === '/work') {
    usleep(30_000);
}
echo getmypid(), "\n";
