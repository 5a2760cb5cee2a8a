// net/http on an inherited socket.
//
//	CGO_ENABLED=0 go build -o server ./activated && pmr start ./server -i 4 --listen tcp://0.0.0.0:3000
package main

import (
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"time"
)

func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/work" {
			time.Sleep(30 * time.Millisecond)
		}
		fmt.Fprintln(w, os.Getpid())
	})
	// The first socket of LISTEN_FDS.
	listener, err := net.FileListener(os.NewFile(3, "socket"))
	if err != nil {
		log.Fatal("start me with --listen: ", err)
	}
	log.Fatal(http.Serve(listener, nil))
}
