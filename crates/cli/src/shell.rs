//! Words as shells read them.

/// A family of shells, which quote and set variables in their own ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Shell {
    /// bash, zsh, dash and every other descendant of the Bourne shell
    Sh,
    /// fish
    Fish,
}

impl Shell {
    /// The line that sets a variable for this shell and the programs it starts.
    pub(crate) fn set(self, name: &str, value: &str) -> String {
        let value = self.quote(value);
        match self {
            Self::Sh => format!("export {name}={value}"),
            // The semicolon: fish's eval joins lines by spaces.
            Self::Fish => format!("set -gx {name} {value};"),
        }
    }

    /// The line that takes a variable away.
    pub(crate) fn unset(self, name: &str) -> String {
        match self {
            Self::Sh => format!("unset {name}"),
            Self::Fish => format!("set -e {name};"),
        }
    }

    /// `text` as one word that means nothing but itself.
    pub(crate) fn quote(self, text: &str) -> String {
        let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:,@+=".contains(letter);
        if !text.is_empty() && text.chars().all(plain) {
            return text.to_owned();
        }
        match self {
            Self::Sh => format!("'{}'", text.replace('\'', r"'\''")),
            Self::Fish => format!("'{}'", text.replace('\\', r"\\").replace('\'', r"\'")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn plain_words_stay_and_others_are_quoted() {
        assert_eq!(Shell::Sh.quote("http://127.0.0.1:8773"), "http://127.0.0.1:8773");
        assert_eq!(Shell::Sh.quote(""), "''");
        assert_eq!(Shell::Sh.quote("it's"), r"'it'\''s'");
        assert_eq!(Shell::Fish.quote(r"it's \"), r"'it\'s \\'");
        assert_eq!(Shell::Fish.set("A", "b c"), "set -gx A 'b c';");
        assert_eq!(Shell::Fish.unset("A"), "set -e A;");
    }

    #[test]
    fn a_real_shell_reads_back_what_was_quoted() {
        for text in ["plain", "", "a b", "it's", "$(exit 1)`id`", "a\nb", r"back\slash", "*?[~;&|<>#!", "é%"]
        {
            let script = format!("{}; printf %s \"$WORD\"", Shell::Sh.set("WORD", text));
            let output = Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), text);
        }
    }
}
