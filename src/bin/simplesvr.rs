//! The server: `simplesvr CONFIG IP:PORT`. All of it is in `cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    spaxos::cli::simplesvr(std::env::args_os())
}

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
