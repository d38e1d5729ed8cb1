// A guest that talks over /net/tcp and /net/tls with Go's net package: argv[1] is the path. Reads and
// writes at the same time, while another goroutine counts.
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

func dial(path string) (net.Conn, error) {
	descriptor, err := syscall.Open(path, syscall.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	syscall.SetNonblock(descriptor, true)
	file := os.NewFile(uintptr(descriptor), path)
	defer file.Close()
	return net.FileConn(file)
}

func main() {
	connection, err := dial(os.Args[1])
	if err != nil {
		fmt.Println("dial:", err)
		os.Exit(1)
	}
	ticks := 0
	done := make(chan bool)
	go func() {
		for ticks < 5 {
			time.Sleep(time.Millisecond)
			ticks++
		}
		done <- true
	}()
	go func() {
		<-done // the peer is waited for meanwhile
		io.WriteString(connection, strings.Repeat("x", 200000)+".")
	}()
	total := 0
	for piece := make([]byte, 4096); ; {
		got, err := connection.Read(piece)
		total += got
		if err != nil || piece[max(got-1, 0)] == '.' {
			break
		}
	}
	connection.Close()
	fmt.Println(total, ticks)
}
