//! The `kennel` command.

fn main() -> std::process::ExitCode {
    manager::cli::main()
}
