//! Values that are parsed, values that are refused, and texts that must not make a parser panic.

use std::time::Duration;

use super::{LONGEST, parse_bytes, parse_duration, split_words};

#[test]
fn times_are_parsed_or_refused() {
    for (text, millis) in [
        ("0", 0),
        ("1600", 1600),
        (" 250 ", 250),
        ("500ms", 500),
        ("10s", 10_000),
        ("5m", 300_000),
        ("1h", 3_600_000),
        ("1h 30m", 5_400_000),
    ] {
        assert_eq!(parse_duration(text), Some(Duration::from_millis(millis)), "{text:?}");
    }
    for text in ["", " ", "-1", "10x", "s", "1.5.2", "99999999999999999999", "11years", "1,5s", "١٠"] {
        assert_eq!(parse_duration(text), None, "{text:?}");
    }
}

#[test]
fn sizes_are_parsed_or_refused() {
    for (text, bytes) in [
        ("0", 0),
        ("1048576", 1 << 20),
        ("300K", 300 << 10),
        ("300M", 300 << 20),
        ("300mb", 300 << 20),
        ("1 GiB", 1 << 30),
        ("1.5G", 3 << 29),
        ("2T", 2 << 40),
    ] {
        assert_eq!(parse_bytes(text), Some(bytes), "{text:?}");
    }
    for text in ["", "M", "-5M", "5X", "5MM", "1.2.3", ".", "1e3", "99999999999999999999", "99999999T", "9999999999.5G"]
    {
        assert_eq!(parse_bytes(text), None, "{text:?}");
    }
}

#[test]
fn numbers_and_times_are_parsed_back() {
    let mut number: u64 = 1;
    for _ in 0..5_000 {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let small = number >> 33;
        assert_eq!(parse_bytes(&small.to_string()), Some(small));
        assert_eq!(parse_bytes(&format!("{}M", small >> 8)), Some((small >> 8) << 20));
        let time = Duration::from_millis(small);
        assert!(time <= LONGEST);
        assert_eq!(parse_duration(&small.to_string()), Some(time));
        assert_eq!(parse_duration(&humantime::format_duration(time).to_string()), Some(time));
    }
}

#[test]
fn words_are_split_as_a_shell_would() {
    for (text, words) in [
        ("", &[] as &[&str]),
        ("  ", &[]),
        ("a b  c", &["a", "b", "c"]),
        (r#"--x "a b" 'c d'"#, &["--x", "a b", "c d"]),
        (r#"k="v w" --e="""#, &["k=v w", "--e="]),
        (r#""" x"#, &["", "x"]),
        (r"a\ b \d+ \\", &["a b", r"\d+", r"\"]),
        (r#""say \"hi\"" '\n'"#, &[r#"say "hi""#, r"\n"]),
        ("tab\tand\nline", &["tab", "and", "line"]),
    ] {
        assert_eq!(
            split_words(text).as_deref(),
            Some(&words.iter().map(ToString::to_string).collect::<Vec<_>>()[..]),
            "{text:?}"
        );
    }
    for text in ["don't", "\"open", "a 'b"] {
        assert_eq!(split_words(text), None, "{text:?}");
    }
}

/// A fixed sequence of strings of characters that occur in such values, and of others.
fn garbage() -> impl Iterator<Item = String> {
    let letters: Vec<char> = "0123456789.-+eEkKmMgGsShH \"'\\\t\u{0}é٣🦀x".chars().collect();
    let mut state: u64 = 42;
    std::iter::repeat_with(move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut bits = state;
        (0..(bits >> 60))
            .map(|_| {
                bits = bits.rotate_left(7).wrapping_mul(0x9E37_79B9_7F4A_7C15);
                letters[(bits >> 40) as usize % letters.len()]
            })
            .collect()
    })
}

#[test]
fn garbage_never_panics() {
    for text in garbage().take(50_000) {
        let _ = (parse_duration(&text), parse_bytes(&text), split_words(&text));
    }
}
