// A net/http server for tests of serve=listen: what it does is in the path.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sort"
	"strconv"
	"sync/atomic"
	"time"
)

var count, connections, requests atomic.Int64

// waitFor waits until the test has made the file.
func waitFor(path string, r *http.Request) bool {
	for {
		if _, err := os.Stat(path); err == nil {
			return true
		}
		select {
		case <-r.Context().Done():
			return false
		case <-time.After(time.Millisecond):
		}
	}
}

func show(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "%s %s host=%s length=%d chunked=%v remote=%t\n", r.Method, r.RequestURI, r.Host,
		r.ContentLength, len(r.TransferEncoding) > 0, r.RemoteAddr != "")
	names := []string{}
	for name := range r.Header {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		fmt.Fprintf(w, "%s: %s\n", name, r.Header.Get(name))
	}
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "fail" {
		fmt.Fprintln(os.Stderr, "a secret of the inside")
		os.Exit(3)
	}
	version := "1"
	if len(os.Args) > 1 {
		version = os.Args[1]
	}
	http.HandleFunc("/", show)
	http.HandleFunc("/count", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%d\n", count.Add(1))
	})
	http.HandleFunc("/version", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, version)
	})
	http.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("X-Length", strconv.Itoa(len(body)))
		w.Write(body)
	})
	// What comes goes back at once. Without `?duplex` Go may drop a part of a body without length.
	http.HandleFunc("/mirror", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery == "duplex" {
			if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
				panic(err)
			}
		}
		if _, err := io.Copy(w, r.Body); err != nil {
			os.WriteFile("/gone", nil, 0o644)
			panic(http.ErrAbortHandler)
		}
	})
	http.HandleFunc("/early", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusRequestEntityTooLarge)
	})
	http.HandleFunc("/flood", func(w http.ResponseWriter, r *http.Request) {
		size, _ := strconv.Atoi(r.URL.RawQuery)
		piece := make([]byte, 32768)
		for size > 0 {
			n, err := w.Write(piece[:min(size, len(piece))])
			if err != nil {
				os.WriteFile("/gone", nil, 0o644)
				return
			}
			size -= n
		}
	})
	http.HandleFunc("/status", func(w http.ResponseWriter, r *http.Request) {
		status, _ := strconv.Atoi(r.URL.RawQuery)
		w.Header().Set("X-One", "1")
		w.WriteHeader(status)
	})
	http.HandleFunc("/events", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, "data: first\n\n")
		w.(http.Flusher).Flush()
		if !waitFor("/go", r) {
			os.WriteFile("/gone", nil, 0o644)
			return
		}
		fmt.Fprintf(w, "data: second %s\n\n", version)
	})
	// Without reading its request. It notices that its client has left when it writes.
	http.HandleFunc("/ticks", func(w http.ResponseWriter, r *http.Request) {
		for {
			if _, err := fmt.Fprintln(w, "tick"); err != nil {
				os.WriteFile("/gone", nil, 0o644)
				return
			}
			w.(http.Flusher).Flush()
			time.Sleep(10 * time.Millisecond)
		}
	})
	http.HandleFunc("/half", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "half")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	http.HandleFunc("/die", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(os.Stderr, "a secret of the inside")
		os.Exit(7)
	})
	http.HandleFunc("/never", func(w http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
	})
	http.HandleFunc("/hang", func(w http.ResponseWriter, r *http.Request) {
		for {
		}
	})
	http.HandleFunc("/spin", func(w http.ResponseWriter, r *http.Request) {
		for {
			if _, err := os.Stat("/go"); err == nil {
				return
			}
		}
	})
	http.HandleFunc("/head", func(w http.ResponseWriter, r *http.Request) {
		for i := 0; i < 100; i++ {
			w.Header().Set(fmt.Sprintf("X-%d", i), fmt.Sprintf("%0400d", i))
		}
	})
	http.HandleFunc("/connections", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%d %d\n", connections.Load(), requests.Load())
	})
	server := &http.Server{ConnState: func(c net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		} else if state == http.StateActive {
			requests.Add(1)
		}
	}}
	listener, err := net.FileListener(os.NewFile(4, ""))
	if err == nil {
		err = server.Serve(listener)
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
