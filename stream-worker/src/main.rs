//! `stream-worker`: see [`stream_worker::cli`].

fn main() -> std::process::ExitCode {
    stream_worker::cli::main()
}
