// What Rust programs do with its library: each check prints "ok NAME", or "bad NAME".
use std::collections::HashMap;
use std::fs;
use std::io::{self, BufRead, Read, Seek, SeekFrom, Write};
use std::time::{Duration, Instant, SystemTime};

static mut FAILED: bool = false;

fn check(name: &str, good: bool) {
    println!("{} {}", if good { "ok" } else { "bad" }, name);
    if !good {
        unsafe { FAILED = true };
    }
}

fn files() -> io::Result<()> {
    fs::write("/text", "some text")?;
    check("write and read", fs::read_to_string("/text")? == "some text");
    let mut file = fs::OpenOptions::new().append(true).open("/text")?;
    write!(file, ", {}", "more")?;
    file.sync_all()?;
    check("append", fs::metadata("/text")?.len() == 15);
    let mut file = fs::OpenOptions::new().read(true).write(true).open("/text")?;
    file.seek(SeekFrom::Start(5))?;
    file.write_all(b"TEXT")?;
    file.seek(SeekFrom::Start(0))?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    check("seek", text == "some TEXT, more");
    file.set_len(4)?;
    check("set_len", file.metadata()?.len() == 4);
    fs::rename("/text", "/renamed")?;
    check("rename", fs::metadata("/text").unwrap_err().kind() == io::ErrorKind::NotFound);
    check("copy", fs::copy("/renamed", "/copied")? == 4);
    fs::hard_link("/copied", "/linked")?;
    fs::remove_file("/copied")?;
    check("hard_link", fs::read("/linked")? == b"some");
    let exists = fs::OpenOptions::new().write(true).create_new(true).open("/linked");
    check("create_new", exists.unwrap_err().kind() == io::ErrorKind::AlreadyExists);
    check("/env is read-only", fs::write("/env/X", "").is_err());
    let large: Vec<u8> = (0..1_000_000u32).map(|i| (i * 7) as u8).collect();
    fs::write("/large", &large)?;
    check("a large file", fs::read("/large")? == large);
    check("modified", fs::metadata("/large")?.modified()? <= SystemTime::now());
    Ok(())
}

fn directories() -> io::Result<()> {
    fs::create_dir_all("/a/b/c")?;
    for i in 0..200 {
        fs::write(format!("/a/b/{}", i), "")?;
    }
    let mut names = Vec::new();
    let mut directories = 0;
    for entry in fs::read_dir("/a/b")? {
        let entry = entry?;
        directories += entry.file_type()?.is_dir() as i32;
        names.push(entry.file_name());
    }
    check("read_dir", names.len() == 201 && directories == 1);
    check("remove_dir of a full one", fs::remove_dir("/a/b").is_err());
    fs::remove_dir_all("/a")?;
    check("remove_dir_all", fs::metadata("/a").is_err());
    Ok(())
}

#[inline(never)]
fn crash_here(numbers: &[i32], index: usize) -> i32 {
    numbers[index]
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.len() > 1 && arguments[1] == "panic" {
        println!("{}", crash_here(&[1, 2, 3], arguments.len() + 5));
    }
    check("the environment", std::env::var("LANGUAGE_TEST").as_deref() == Ok("a=b"));
    let mut map = HashMap::new();
    map.insert("a", 1);
    check("a map (it wants random numbers)", map["a"] == 1);
    if let Err(error) = files().and_then(|_| directories()) {
        println!("bad files: {}", error);
        std::process::exit(1);
    }
    let before = Instant::now();
    std::thread::sleep(Duration::from_millis(2));
    check("sleep", before.elapsed() >= Duration::from_millis(2));
    for line in io::stdin().lock().lines() {
        println!("read {}", line.unwrap());
    }
    if unsafe { FAILED } {
        std::process::exit(1);
    }
}
