//! `userpipeline-operator`: see [`userpipeline_operator::program`].

fn main() -> std::process::ExitCode {
    userpipeline_operator::program::main()
}
