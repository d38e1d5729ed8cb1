// For tests of /net/serve: several goroutines, each with a file of its own, and net/http's types.
package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"
)

func answer(r *http.Request) *http.Response {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		body = []byte(err.Error())
	}
	if r.URL.Path == "/wait" { // until the test has made the file
		for {
			if _, err := os.Stat("/go"); err == nil {
				break
			}
			time.Sleep(time.Millisecond)
		}
	}
	text := []byte(fmt.Sprintf("%s %s host=%s length=%d: %s", r.Method, r.RequestURI, r.Host,
		r.ContentLength, body))
	response := &http.Response{StatusCode: 200, ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header: http.Header{"X-Length": {strconv.Itoa(len(body))}}, ContentLength: int64(len(text)),
		Body: io.NopCloser(bytes.NewReader(text))}
	if r.URL.Path == "/stream" {
		response.ContentLength = -1
	}
	if r.URL.Path == "/missing" {
		response.StatusCode = 404
	}
	return response
}

func serve() error {
	file, err := os.OpenFile("/net/serve", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	request, err := http.ReadRequest(bufio.NewReader(file))
	if err != nil {
		return err
	}
	return answer(request).Write(file)
}

func main() {
	failed := make(chan error)
	for i := 0; i < 8; i++ {
		go func() {
			for {
				if err := serve(); err != nil {
					failed <- err
				}
			}
		}()
	}
	fmt.Fprintln(os.Stderr, <-failed)
	os.Exit(1)
}
