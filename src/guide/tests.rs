//! Every page can be shown in every form, and the generated one is what the table says.

use super::markdown::{Block, parse};
use super::*;
use crate::spec::keys::form::Group;

#[test]
fn every_page_begins_with_its_heading_and_has_no_other_of_that_rank() {
    for topic in TOPICS {
        let blocks = parse(topic.text);
        assert!(matches!(blocks.first(), Some(Block::Heading(1, _))), "{}", topic.name);
        let others = blocks.iter().skip(1).filter(|block| matches!(block, Block::Heading(1, _))).count();
        assert_eq!(others, 0, "{}: a page has one heading of the first rank", topic.name);
        assert!(!topic.title().is_empty() && topic.title().len() < 70, "{}: {:?}", topic.name, topic.title());
    }
}

/// A block without a language would be compiled as Rust by the tests of the documentation.
#[test]
fn every_block_of_code_names_its_language() {
    for topic in TOPICS {
        let fences = topic.text.lines().filter(|line| line.trim_start().starts_with("```"));
        for opening in fences.step_by(2) {
            assert!(opening.trim().len() > 3, "{}: a block of code names no language", topic.name);
        }
    }
}

#[test]
fn the_page_of_keys_is_what_the_table_generates() {
    let generated = key_page::markdown();
    if std::env::var_os("PMR_WRITE_GUIDE").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/guide/keys.md"), &generated).unwrap();
        return;
    }
    let committed = find("keys").unwrap().text;
    assert!(
        committed == generated,
        "src/guide/keys.md is not what the table of keys says now; write it anew with\n\
         PMR_WRITE_GUIDE=1 cargo test --lib guide::tests::the_page_of_keys"
    );
}

#[test]
fn the_topics_that_keys_refer_to_exist() {
    for group in Group::ALL {
        assert!(find(group.topic()).is_some(), "{}", group.title());
    }
}
