use super::*;
use crate::testing::Folder;
use std::os::unix::fs::PermissionsExt;

const A: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
const B: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

#[test]
fn reads_keys_and_names_wrong_lines_without_showing_them() {
    let entry = |byte, added| Entry { key: Key([byte; 32]), added };
    assert_eq!(parse(&format!("# ours\n{A}\n\n  {B} \n")).unwrap(), [entry(0, None), entry(1, None)]);
    let dated = format!("# added 1790000000\n# ours\n{A}\n# added lately\n{B}\n");
    assert_eq!(parse(&dated).unwrap(), [entry(0, Some(1_790_000_000)), entry(1, None)]);
    let many: String =
        (0..=MAX_KEYS).map(|key| format!("{}\n", Key([u8::try_from(key).unwrap(); 32]).to_base64())).collect();
    for (text, wrong) in [
        (String::new(), "holds no key"),
        ("# only a comment\n".to_owned(), "holds no key"),
        (format!("{A}\nsecret\n"), "line 2: a key is 32 bytes"),
        (format!("{A}\nAAAA\nx y\n"), "line 2: a key is 32 bytes in base64, not 3; line 3: a key is"),
        (format!("{A}\n#\n{B}\n{A}\n"), "line 4: the key of line 1 again"),
        (many, "17 keys are too many"),
    ] {
        let error = parse(&text).unwrap_err();
        assert!(error.contains(wrong) && !error.contains("secret") && !error.contains(A), "{error}");
    }
}

#[test]
fn makes_a_file_that_is_its_owners_alone_and_reads_it_again() {
    let folder = Folder::new();
    let path = folder.path().join("state/secret/keys");
    let keys = load_or_create(&path).unwrap();
    assert_eq!(keys.len(), 1);
    assert!(keys[0].key != Key([0; 32]) && keys[0].added.is_some());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    assert_eq!(load_or_create(&path).unwrap(), keys);

    let rotated = rotated(&keys, 3).unwrap();
    save(&path, &rotated).unwrap();
    assert_eq!((load(&path).unwrap(), mode(&path)), (rotated.clone(), 0o600));
    assert_eq!(rotated[1..], keys);
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn rotation_keeps_the_newest() {
    let keys: Vec<_> = (0..4).map(|byte| Entry { key: Key([byte; 32]), added: None }).collect();
    for (keep, kept) in [(1, 0), (2, 1), (3, 2), (9, 4)] {
        let rotated = rotated(&keys, keep).unwrap();
        assert_eq!(rotated[1..], keys[..kept], "{keep}");
        assert!(!keys.contains(&rotated[0]));
    }
}

#[test]
fn a_key_that_is_to_seal_later_stands_behind_the_one_that_does() {
    let keys: Vec<_> = (0..4).map(|byte| Entry { key: Key([byte; 32]), added: None }).collect();
    for (keep, kept) in [(2, 0), (3, 1), (9, 3)] {
        let staged = staged(&keys, keep).unwrap();
        assert_eq!((&staged[0], &staged[2..]), (&keys[0], &keys[1..=kept]), "{keep}");
        assert!(!keys.contains(&staged[1]) && staged[1].added.is_some());
    }
}

#[test]
fn a_file_that_others_can_read_or_write_is_refused() {
    let folder = Folder::new();
    let path = folder.path().join("keys");
    fs::write(&path, A).unwrap();
    for (mode, holds) in [(0o600, true), (0o400, true), (0o700, true), (0o640, false), (0o604, false), (0o620, false)] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        match load_or_create(&path) {
            Ok(_) => assert!(holds, "{mode:o}"),
            Err(error) => {
                assert!(!holds, "{error}");
                assert!(error.to_string().ends_with(&format!("run: chmod 600 {}", path.display())), "{error}");
            }
        }
    }
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(matches!(load_or_create(&path), Err(Error::File { .. } | Error::Refused { .. })));
}

#[test]
fn of_two_that_make_the_file_at_once_one_does_and_the_other_reads_it() {
    let folder = Folder::new();
    let path = folder.path().join("keys");
    let made = [random().unwrap(), random().unwrap()];
    write(&path, &made[..1], Over::Nothing).unwrap();
    let late = write(&path, &made[1..], Over::Nothing).unwrap_err();
    assert_eq!(late.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(load_or_create(&path).unwrap(), made[..1]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
}
