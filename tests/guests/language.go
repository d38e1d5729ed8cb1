// What Go programs do with its library: each check prints "ok NAME", or "bad NAME: why".
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

var failed bool

func check(name string, err error) {
	if err != nil {
		failed = true
		fmt.Printf("bad %s: %v\n", name, err)
		return
	}
	fmt.Println("ok", name)
}

func expect(name string, good bool) {
	if good {
		check(name, nil)
	} else {
		check(name, errors.New("not so"))
	}
}

func files() {
	check("WriteFile", os.WriteFile("/text", []byte("some text"), 0o644))
	data, err := os.ReadFile("/text")
	check("ReadFile", err)
	expect("the content", string(data) == "some text")

	file, err := os.OpenFile("/text", os.O_APPEND|os.O_WRONLY, 0)
	check("OpenFile to append", err)
	_, err = file.WriteString(", more")
	check("WriteString", err)
	check("Sync", file.Sync())
	check("Close", file.Close())
	info, err := os.Stat("/text")
	check("Stat", err)
	expect("the size", info != nil && info.Size() == 15 && info.Mode().IsRegular())

	large := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	check("a megabyte", os.WriteFile("/large", large, 0o644))
	data, err = os.ReadFile("/large")
	check("a megabyte back", err)
	expect("it is the same", bytes.Equal(data, large))

	check("Rename", os.Rename("/text", "/renamed"))
	_, err = os.Stat("/text")
	expect("the old name is gone", errors.Is(err, fs.ErrNotExist))
	check("Truncate", os.Truncate("/renamed", 4))
	when := time.Unix(1100000000, 5)
	check("Chtimes", os.Chtimes("/renamed", when, when))
	info, err = os.Stat("/renamed")
	expect("the time", err == nil && info.ModTime().Equal(when))
	check("Symlink", os.Symlink("renamed", "/sign"))
	target, err := os.Readlink("/sign")
	expect("Readlink", err == nil && target == "renamed")
	temporary, err := os.CreateTemp("", "x")
	check("CreateTemp", err)
	if err == nil {
		check("Remove", os.Remove(temporary.Name()))
	}
	_, err = os.OpenFile("/env/X", os.O_CREATE|os.O_WRONLY, 0o644)
	expect("/env is read-only", err != nil)
}

func directories() {
	check("MkdirAll", os.MkdirAll("/a/b/c", 0o755))
	for i := 0; i < 200; i++ {
		if err := os.WriteFile(fmt.Sprintf("/a/b/%03d", i), nil, 0o644); err != nil {
			check("200 files", err)
			return
		}
	}
	entries, err := os.ReadDir("/a/b")
	check("ReadDir", err)
	expect("its names", len(entries) == 201 && entries[0].Name() == "000" &&
		entries[200].Name() == "c" && entries[200].IsDir())
	count := 0
	check("WalkDir", filepath.WalkDir("/a", func(string, fs.DirEntry, error) error {
		count++
		return nil
	}))
	expect("what it found", count == 203)
	matches, err := filepath.Glob("/a/b/1*")
	expect("Glob", err == nil && len(matches) == 100)
	check("RemoveAll", os.RemoveAll("/a"))
	_, err = os.Stat("/a")
	expect("it is gone", errors.Is(err, fs.ErrNotExist))
	working, err := os.Getwd()
	expect("Getwd", err == nil && working == "/")
}

// Goroutines sleep and compute while another one waits in a read of standard input.
func goroutines() {
	lines := make(chan string)
	go func() {
		scanner := bufio.NewScanner(os.Stdin)
		for scanner.Scan() {
			lines <- scanner.Text()
		}
		close(lines)
	}()
	var group sync.WaitGroup
	var mutex sync.Mutex
	total := 0
	for i := 1; i <= 10; i++ {
		group.Add(1)
		go func() {
			defer group.Done()
			time.Sleep(time.Duration(i) * time.Millisecond)
			mutex.Lock()
			total += i
			mutex.Unlock()
		}()
	}
	group.Wait()
	expect("ten that slept", total == 55)
	fmt.Println("waiting")
	count := 0
	for line := range lines {
		fmt.Println("read", line)
		count++
	}
	expect("standard input ended", count > 0)
	select {
	case <-time.After(time.Millisecond):
		check("After", nil)
	case <-lines:
		check("After", nil)
	}
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "panic" {
		var none map[string]int
		none["x"] = 1
	}
	if len(os.Args) > 1 && os.Args[1] == "copy" {
		if _, err := io.Copy(os.Stdout, os.Stdin); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	expect("the environment", os.Getenv("LANGUAGE_TEST") == "a=b")
	text, err := json.Marshal(map[string]int{"a": 1})
	expect("json", err == nil && string(text) == `{"a":1}`)
	files()
	directories()
	goroutines()
	if failed {
		os.Exit(1)
	}
}
