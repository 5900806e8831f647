//! A terminal with a shell in it: tmux, which keeps the screen as a terminal does.

use super::{Folder, eventually};
use std::{fs, process::Command};

/// It ends with this value, and all that runs in it.
#[derive(Debug)]
pub struct Terminal {
    folder: Folder,
}

impl Terminal {
    /// With so many columns and lines, and these variables in the shell's environment.
    #[track_caller]
    pub fn start((width, height): (u16, u16), variables: &[(&str, &str)]) -> Self {
        let terminal = Self { folder: Folder::new() };
        let (width, height) = (width.to_string(), height.to_string());
        let mut command =
            terminal.command(&["-f", "/dev/null", "-u", "new-session", "-d", "-x", &width, "-y", &height]);
        for (name, value) in [("ENV", "")].iter().chain(variables) {
            command.arg("-e").arg(format!("{name}={value}"));
        }
        for name in ["TMUX", "NO_COLOR", "STEADFAST_ADMIN", "STEADFAST_NODES", "STEADFAST_TOKEN_FILE"] {
            command.env_remove(name);
        }
        let started = command.arg("sh").output().unwrap();
        assert!(started.status.success(), "{started:?}");
        terminal.eventually("the shell asks for a line", |screen| !screen.trim().is_empty());
        terminal
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(self.folder.path("tmux")).args(arguments);
        command
    }

    #[track_caller]
    fn tmux(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Types this text.
    #[track_caller]
    pub fn types(&self, text: &str) {
        self.tmux(&["send-keys", "-l", text]);
    }

    /// Presses keys by their names, as `Enter`, `Down`, `C-c`, `d`.
    #[track_caller]
    pub fn keys(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    /// Runs a line in the shell, up to its end.
    #[track_caller]
    pub fn runs(&self, line: &str) {
        let done = self.folder.path("done");
        drop(fs::remove_file(&done));
        self.types(&format!("{line}; touch {}", done.display()));
        self.keys(&["Enter"]);
        eventually("the line has run", || done.exists().then_some(()));
    }

    /// What `stty` says of it: another text where any setting is another one.
    #[track_caller]
    pub fn settings(&self) -> String {
        let file = self.folder.path("stty");
        self.runs(&format!("stty -a > {}", file.display()));
        fs::read_to_string(file).unwrap()
    }

    /// The process that runs in the shell.
    #[track_caller]
    pub fn child(&self) -> u32 {
        let shell = self.tmux(&["display-message", "-p", "#{pane_pid}"]);
        let shell = shell.trim();
        let children = fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).unwrap();
        children.trim().parse().unwrap()
    }

    #[track_caller]
    pub fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// The same with the sequences that make colours.
    #[track_caller]
    pub fn coloured_screen(&self) -> String {
        self.tmux(&["capture-pane", "-p", "-e"])
    }

    #[track_caller]
    pub fn shows(&self, text: &str) -> String {
        self.eventually(&format!("the screen has {text:?}"), |screen| screen.contains(text))
    }

    /// The screen, once it is like that.
    #[track_caller]
    pub fn eventually(&self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        let last = std::cell::RefCell::new(String::new());
        let told = Told(&last);
        let found = eventually(what, || {
            let screen = self.screen();
            let found = is_so(&screen);
            last.replace(screen.clone());
            found.then_some(screen)
        });
        drop(told);
        found
    }

    #[track_caller]
    pub fn resize(&self, (width, height): (u16, u16)) {
        self.tmux(&["resize-window", "-x", &width.to_string(), "-y", &height.to_string()]);
    }

    /// Whether the screen is another one than the shell's, and whether the cursor is seen.
    #[track_caller]
    pub fn alternate_and_cursor(&self) -> (bool, bool) {
        let told = self.tmux(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"]);
        let (alternate, cursor) = told.trim().split_once(' ').unwrap();
        (alternate == "1", cursor == "1")
    }
}

/// What was seen last, where that was not what was waited for.
struct Told<'a>(&'a std::cell::RefCell<String>);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the screen\n{}---", self.0.borrow());
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        drop(self.command(&["kill-server"]).output());
    }
}
