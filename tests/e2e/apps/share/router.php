<?php
// The router of `php -S`, which serves one request at a time.
if ($_SERVER['REQUEST_URI'] === '/work') usleep(30000);
echo getmypid(), "\n";
