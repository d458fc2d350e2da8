//! The tool: `spaxos serve | demo | bench | dump | sim | trace`. All of it is in `cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    spaxos::cli::spaxos(std::env::args_os())
}

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
