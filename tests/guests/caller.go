// Calls other apps from goroutines. The first argument says how.
package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

func open(app string) *os.File {
	call, err := os.OpenFile("/cloud/apps/"+app+"/call", os.O_RDWR, 0)
	if err != nil {
		fmt.Println("open:", err)
		os.Exit(1)
	}
	return call
}

func ask(call *os.File, question string) string {
	if _, err := call.WriteString(question); err != nil {
		return fmt.Sprint("write: ", err)
	}
	answer, err := io.ReadAll(call)
	if err != nil {
		why, _ := os.ReadFile("/proc/self/errstr")
		return fmt.Sprintf("%s(read: %v: %s)", answer, err, strings.TrimSpace(string(why)))
	}
	return string(answer)
}

// One waits for an answer that never comes; all others go on.
func together() {
	go func() {
		ask(open("worker"), "wait\n")
		fmt.Println("it was answered?")
	}()
	var group sync.WaitGroup
	answers := make([]string, 8)
	for i := range answers {
		group.Add(1)
		go func() {
			defer group.Done()
			call := open("worker")
			defer call.Close()
			for round := 0; round < 3; round++ {
				answers[i] += ask(call, fmt.Sprintf("number %d\n", i))
			}
		}()
	}
	ticks := 0
	done := make(chan bool)
	go func() {
		group.Wait()
		close(done)
	}()
	for running := true; running; {
		select {
		case <-done:
			running = false
		case <-time.After(time.Microsecond):
			ticks++
		}
	}
	fmt.Print(strings.Join(answers, ""))
	fmt.Println("ticked:", ticks > 0)
}

// A run that was started: its input, output and end, each from a goroutine.
func streams() {
	start, err := os.OpenFile("/cloud/apps/worker/start", os.O_RDWR, 0)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Fprint(start, "stdin=open\n")
	var id int
	if _, err := fmt.Fscan(start, &id); err != nil {
		fmt.Println(err)
		return
	}
	directory := fmt.Sprintf("/proc/%d/", id)
	var group sync.WaitGroup
	results := map[string]string{"stdout": "", "stderr": "", "wait": ""}
	var lock sync.Mutex
	for name := range results {
		group.Add(1)
		go func() {
			defer group.Done()
			text, err := os.ReadFile(directory + name)
			lock.Lock()
			defer lock.Unlock()
			results[name] = fmt.Sprintf("%q %v", text, err)
		}()
	}
	time.Sleep(time.Millisecond) // they wait already, or do not: it must not matter
	input, err := os.OpenFile(directory+"stdin", os.O_WRONLY, 0)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Fprint(input, "hello\nblame it failed\n")
	input.Close()
	os.Remove(directory + "stdin")
	group.Wait()
	fmt.Println(results["stdout"])
	fmt.Println(results["stderr"])
	fmt.Println(results["wait"])
}

func main() {
	switch os.Args[1] {
	case "ask":
		call := open("worker")
		for _, question := range os.Args[2:] {
			fmt.Println(ask(call, question+"\n"))
		}
	case "together":
		together()
	case "streams":
		streams()
	}
}
