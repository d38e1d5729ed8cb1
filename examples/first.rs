// The first program: says hello, with its arguments, and counts the lines of its standard input.
// Build it with
//     rustc --target wasm32-wasip1 -O -o first.wasm first.rs
// (before Rust 1.78 the target is called wasm32-wasi).
use std::io;

fn main() {
    let mut arguments = std::env::args();
    println!("Hello from {}!", arguments.next().unwrap_or_default());
    for (i, argument) in arguments.enumerate() {
        println!("  argument {}: {}", i + 1, argument);
    }
    let lines = io::stdin().lines().count();
    if lines > 0 {
        println!("  lines of input: {}", lines);
    }
}
