// Go's net/http over /net/request: requests without sockets. Prints what each URL answers, all of
// them fetched at once. Build it with
//
//	GOOS=wasip1 GOARCH=wasm go build -o fetch.wasm fetch.go
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
)

// Transport is an http.RoundTripper: one open file a request.
type Transport struct{}

type body struct {
	io.ReadCloser
	file *os.File
}

func (b body) Close() error {
	b.ReadCloser.Close()
	return b.file.Close()
}

func (Transport) RoundTrip(request *http.Request) (*http.Response, error) {
	file, err := os.OpenFile("/net/request", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	var response *http.Response
	if err = request.WriteProxy(file); err == nil {
		response, err = http.ReadResponse(bufio.NewReader(file), request)
	}
	if err == nil && response.Header.Get("0asm-Error") != "" {
		err = errors.New(response.Header.Get("0asm-Error"))
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	response.Body = body{response.Body, file}
	return response, nil
}

func fetch(client *http.Client, url string) string {
	response, err := client.Get(url)
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%s: %s: %d bytes", url, response.Status, len(text))
}

func main() {
	client := &http.Client{Transport: Transport{}}
	lines := make(chan string)
	for _, url := range os.Args[1:] {
		go func(url string) { lines <- fetch(client, url) }(url)
	}
	for range os.Args[1:] {
		fmt.Println(<-lines)
	}
}
