//! `cumulet env`, read by a real shell, with several kinds of `aws` on the path.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::fake::{Fake, KEY};
use crate::user::{Ran, User};

/// A folder with an `aws` that says this of its version.
fn aws_that_says(version: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("aws");
    std::fs::write(&program, format!("#!/bin/sh\necho '{version}'\n")).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

#[test]
fn a_shell_takes_the_variables_and_drops_what_leads_astray() {
    let fake = Fake::start();
    let user = User::of(&fake);
    let script = r#"eval "$("$CUMULET" env)" && env | grep ^AWS_ | sort"#;
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).env_clear().env("PATH", "/usr/bin:/bin").env("HOME", user.home.path());
    shell.env("CUMULET", env!("CARGO_BIN_EXE_cumulet"));
    // An earlier cloud's, and what would lead past this one.
    for name in ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_EC2", "AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID"] {
        shell.env(name, "http://127.0.0.1:9");
    }
    let variables = Ran::of(shell.output().unwrap()).ok();
    let (id, secret) = KEY;
    let expected = format!(
        "AWS_ACCESS_KEY_ID={id}\nAWS_DEFAULT_REGION=eu-test-1\nAWS_ENDPOINT_URL=http://{}\nAWS_REGION=eu-test-1\n\
         AWS_SECRET_ACCESS_KEY={secret}\n",
        fake.address
    );
    assert_eq!(variables, expected);
}

#[test]
fn fish_and_json_say_the_same() {
    let fake = Fake::start();
    let user = User::of(&fake);
    let fish = user.run(&["env", "--shell", "fish"]).ok();
    assert!(fish.contains("set -gx AWS_SECRET_ACCESS_KEY 'a secret/with+signs';\n"), "{fish}");
    let json: serde_json::Value = serde_json::from_str(&user.run(&["env", "--output", "json"]).ok()).unwrap();
    assert_eq!(json["AWS_SECRET_ACCESS_KEY"], KEY.1);
}

#[test]
fn an_aws_that_would_call_the_real_one_is_warned_of() {
    let fake = Fake::start();
    let user = User::of(&fake);
    for (version, warned) in [
        ("aws-cli/1.22.34 Python/3.10.6 Linux/5.15", true),
        ("aws-cli/2.12.7 Python/3.11.4 Linux/5.15", true),
        ("aws-cli/1.45.11 Python/3.11.7 Linux/6.18", false),
        ("command not found", false),
    ] {
        let folder = aws_that_says(version);
        let ran = Ran::of(user.command(&["env"]).env("PATH", folder.path()).output().unwrap());
        assert_eq!(
            ran.stderr.contains("does not obey AWS_ENDPOINT_URL"),
            warned,
            "{version}: {}",
            ran.stderr
        );
        assert!(ran.ok().starts_with("export AWS_ENDPOINT_URL=http://127.0.0.1:"));
    }
}
