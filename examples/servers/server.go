// A plain web server; it knows nothing of clusters.
//
//	CGO_ENABLED=0 go build -o server examples/servers/server.go && PORT=3000 pmr start ./server -i 4
package main

import (
	"fmt"
	"log"
	"net/http"
	"os"
)

func main() {
	port := os.Getenv("PORT")
	if port == "" {
		port = "3000"
	}
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, os.Getpid()) })
	log.Fatal(http.ListenAndServe("127.0.0.1:"+port, nil))
}
