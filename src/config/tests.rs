use super::*;

fn judge_text(text: &str) -> (Config, Vec<Mistake>) {
    judge(text, |_| Vec::new())
}

const EVERYTHING: &str = include_str!("../../tests/config/valid/everything.toml");

#[test]
fn a_file_that_is_cut_short_anywhere_is_judged_all_the_same() {
    for at in (0..EVERYTHING.len()).step_by(5) {
        let (_, mistakes) = judge_text(&EVERYTHING[..at]);
        let lines = EVERYTHING[..at].lines().count().max(1);
        assert!(mistakes.iter().all(|mistake| mistake.line.is_none_or(|line| line <= lines)), "{at}: {mistakes:?}");
    }
}

#[test]
fn one_slip_is_one_mistake_on_its_line() {
    let keys = EVERYTHING.lines().enumerate().filter(|(_, line)| line.contains(" = ") && !line.contains('{'));
    for (at, line) in keys {
        let (key, value) = line.split_once(" = ").unwrap();
        for wrong in [format!("{key}x = {value}"), format!("{key} = [[1979-05-27]]")] {
            let text = EVERYTHING.lines().enumerate().map(|(other, line)| if other == at { &wrong } else { line });
            let (_, mistakes) = judge_text(&text.collect::<Vec<_>>().join("\n"));
            // An unknown key in place of one that must be there is two: it, and what is missing.
            let here = mistakes.iter().filter(|mistake| mistake.line == Some(at + 1)).count();
            assert!(here == 1 && mistakes.len() <= 2, "{wrong}: {mistakes:#?}");
        }
    }
}

#[test]
fn what_was_read_is_what_was_written() {
    let (config, mistakes) = judge_text(EVERYTHING);
    assert!(mistakes.is_empty(), "{mistakes:?}");
    let (again, mistakes) = judge_text(&toml::to_string(&config).unwrap());
    assert!(mistakes.is_empty(), "{mistakes:?}");
    assert_eq!(again, config);
    let default = Config::default();
    assert!(
        config.global != default.global && config.admin != default.admin && config.membership != default.membership
    );
}

#[test]
fn callers_without_lines_are_told_them_in_words() {
    let (_, mistakes) = judge_text("[admin]\nlisten = \"here\"\n");
    let problems = Refused { file: "x".into(), mistakes }.into_problems();
    assert_eq!(problems[0].wrong, "`here` is not an address (line 2)");
    assert_eq!(problems[0].path.to_string(), "admin.listen");
}

/// Found by fuzzing: a line end in a quoted key went out as it was, and one mistake took several lines.
#[test]
fn a_mistake_is_one_line_whatever_the_key_is() {
    let (_, mistakes) = judge_text("\"a\\nb\\u001b[31m\" = 1\n");
    let told = Refused { file: "x".into(), mistakes }.to_string();
    assert!(told.starts_with("x:1: a\\nb\\u{1b}[31m: unknown key `a\\nb\\u{1b}[31m`; known here: "), "{told}");
    assert_eq!(told.lines().count(), 1, "{told}");
}
