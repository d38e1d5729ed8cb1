// The page of serve.c by net/http: from descriptor 4 as a guest, from a port of its own natively.
package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
)

func listen() (net.Listener, error) {
	if port := os.Getenv("PORT"); port != "" {
		return net.Listen("tcp", "127.0.0.1:"+port)
	}
	return net.FileListener(os.NewFile(4, ""))
}

func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "Hello from a sandbox!")
	})
	listener, err := listen()
	if err == nil {
		err = http.Serve(listener, nil)
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
