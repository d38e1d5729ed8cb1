// A server by std::net alone, on the socket that it was given.
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::wasi::io::FromRawFd;

fn main() -> std::io::Result<()> {
    let listener = unsafe { TcpListener::from_raw_fd(4) };
    for stream in listener.incoming() {
        let mut stream = stream?;
        let mut request = [0; 4096];
        let length = stream.read(&mut request)?;
        let line = String::from_utf8_lossy(&request[..length]).lines().next().unwrap_or("").to_string();
        let text = format!("hello from Rust: {}\n", line);
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{}", text.len(), text)?;
    }
    Ok(())
}
