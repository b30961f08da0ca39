//! `ingest-job`: see [`ingest_job::cli`].

fn main() -> std::process::ExitCode {
    ingest_job::cli::main()
}
