// net/http, linked statically.   CGO_ENABLED=0 go build -o server . && PORT=3000 pmr start ./server -i 4
package main

import (
	"fmt"
	"log"
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
	port := os.Getenv("PORT")
	if port == "" {
		port = "3000"
	}
	log.Fatal(http.ListenAndServe(":"+port, nil))
}
