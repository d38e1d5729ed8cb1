// net/http/cgi, unchanged: a handler that echoes what it was asked.
package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/cgi"
	"os"
)

func handle(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	switch r.URL.Query().Get("do") {
	case "redirect":
		http.Redirect(w, r, "/elsewhere", http.StatusSeeOther)
		return
	case "missing":
		http.NotFound(w, r)
		return
	}
	http.SetCookie(w, &http.Cookie{Name: "one", Value: "1"})
	http.SetCookie(w, &http.Cookie{Name: "two", Value: "2"})
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	fmt.Fprintf(w, "%s %s host=%s type=%s cookie=%s length=%d body=%s\n", r.Method, r.URL.Path,
		r.Host, r.Header.Get("Content-Type"), r.Header.Get("Cookie"), r.ContentLength, body)
}

func main() {
	if err := cgi.Serve(http.HandlerFunc(handle)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
