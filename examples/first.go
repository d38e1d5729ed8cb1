// The first program: says hello, with its arguments, and counts the lines of its standard input.
// Build it with
//
//	GOOS=wasip1 GOARCH=wasm go build -o first.wasm first.go
package main

import (
	"bufio"
	"fmt"
	"os"
)

func main() {
	fmt.Printf("Hello from %s!\n", os.Args[0])
	for i, argument := range os.Args[1:] {
		fmt.Printf("  argument %d: %s\n", i+1, argument)
	}
	lines := 0
	for input := bufio.NewScanner(os.Stdin); input.Scan(); {
		lines++
	}
	if lines > 0 {
		fmt.Printf("  lines of input: %d\n", lines)
	}
}
