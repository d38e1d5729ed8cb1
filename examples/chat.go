// A chat: a web server that is kept (serve=listen), because all visitors meet in its memory.
// Build it with
//
//	GOOS=wasip1 GOARCH=wasm go build -o chat.wasm chat.go
package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
)

const page = `<!doctype html><title>Chat</title><h1>Chat</h1>
<form method=post action=say target=nowhere><input name=text autofocus><button>Say</button></form>
<iframe name=nowhere hidden></iframe><ul id=lines></ul>
<script>
new EventSource("events").onmessage = event => {
	const line = document.createElement("li");
	line.textContent = event.data;
	document.getElementById("lines").append(line);
};
</script>
`

var (
	lock     sync.Mutex
	visitors = map[chan string]bool{}
)

// say tells everybody who listens; who is too slow to take it misses it.
func say(text string) {
	lock.Lock()
	defer lock.Unlock()
	for visitor := range visitors {
		select {
		case visitor <- text:
		default:
		}
	}
}

// events is a stream of what is said (server-sent events).
func events(w http.ResponseWriter, r *http.Request) {
	visitor := make(chan string, 16)
	lock.Lock()
	visitors[visitor] = true
	lock.Unlock()
	defer func() {
		lock.Lock()
		delete(visitors, visitor)
		lock.Unlock()
	}()
	w.Header().Set("Content-Type", "text/event-stream")
	fmt.Fprint(w, ": welcome\n\n")
	w.(http.Flusher).Flush()
	for {
		select {
		case text := <-visitor:
			fmt.Fprintf(w, "data: %s\n\n", strings.Join(strings.Fields(text), " "))
			w.(http.Flusher).Flush()
		case <-r.Context().Done():
			return
		}
	}
}

func main() {
	http.HandleFunc("/events", events)
	http.HandleFunc("/say", func(w http.ResponseWriter, r *http.Request) {
		say(r.FormValue("text"))
		w.WriteHeader(http.StatusNoContent)
	})
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, page)
	})
	listener, err := net.FileListener(os.NewFile(4, ""))
	if err == nil {
		err = http.Serve(listener, nil)
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
