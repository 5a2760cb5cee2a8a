//! The pages are such that every form of them can be made.

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
fn the_topics_that_keys_refer_to_exist() {
    for group in Group::ALL {
        assert!(find(group.topic()).is_some(), "{}", group.title());
    }
}
