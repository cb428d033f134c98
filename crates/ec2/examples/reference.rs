//! Prints the reference page of all actions: `cargo run -p ec2 --example reference > docs/reference/api.md`.

fn main() {
    print!("{}", ec2::actions::reference());
}
