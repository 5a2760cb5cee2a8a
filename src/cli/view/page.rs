//! Renders a page of the guide for a terminal, or as plain text for other outputs.
//!
//! Each word has its own style, so that a pager may cut the page between any two lines.

use anstyle::{AnsiColor, Style};
use comfy_table::{ContentArrangement, Table};
use textwrap::{Options, WordSeparator, WordSplitter, WrapAlgorithm};

use super::Terminal;
use crate::guide::Topic;
use crate::guide::markdown::{self, Block, Span, parse};

/// Limit of the width in columns: longer lines are hard to read.
const WIDEST: usize = 100;
/// Width in columns without a terminal.
const USUAL: usize = 80;
/// Smallest width in columns for which text is wrapped.
const NARROWEST: usize = 20;

const HEADING: Style = Style::new().bold();
const TITLE: Style = AnsiColor::Cyan.on_default().bold();
const CODE: Style = AnsiColor::Green.on_default();

/// The page, ready to be shown: lines of at most 100 columns, or the width of the terminal.
#[must_use]
pub fn text(page: &str, terminal: Terminal) -> String {
    let width = terminal.width.unwrap_or(USUAL).clamp(NARROWEST, WIDEST);
    let mut sheet = Sheet { terminal, width, lines: Vec::new() };
    for block in parse(page) {
        match &block {
            Block::Heading(rank, line) => sheet.heading(*rank, line),
            _ => sheet.block(&block, "  "),
        }
    }
    sheet.lines.join("\n")
}

/// The list of topics.
#[must_use]
pub fn topics(topics: &[Topic], terminal: Terminal) -> String {
    let wide = topics.iter().map(|topic| topic.name.len()).max().unwrap_or_default();
    let one = |topic: &Topic| format!("  {:wide$}  {}", topic.name, topic.title());
    let lines: Vec<String> = topics.iter().map(one).collect();
    let head = terminal.paint(HEADING, "The guide, by topic (`pmr help TOPIC`):");
    format!("{head}\n{}", lines.join("\n"))
}

struct Sheet {
    terminal: Terminal,
    width: usize,
    lines: Vec<String>,
}

impl Sheet {
    fn heading(&mut self, rank: u8, line: &[Span]) {
        self.gap();
        let style = if rank == 1 { TITLE } else { HEADING };
        let words = words(&markdown::plain(line), |word| self.terminal.paint(style, word));
        self.wrapped(&words, if rank > 2 { "  " } else { "" }, "");
    }

    /// A block with an empty line before it.
    fn block(&mut self, block: &Block, indent: &str) {
        self.gap();
        match block {
            Block::Heading(_, line) | Block::Paragraph(line) => self.wrapped(&self.styled(line), indent, ""),
            Block::Code(text) => self.code(text, indent),
            Block::List(first, items) => self.list(*first, items, indent),
            Block::Table(head, rows) => self.table(head, rows, indent),
            Block::Quote(blocks) => blocks.iter().for_each(|block| self.block(block, &format!("{indent}  "))),
        }
    }

    fn code(&mut self, text: &str, indent: &str) {
        for line in text.lines() {
            let line = if line.is_empty() { String::new() } else { self.terminal.paint(CODE, line) };
            self.lines.push(format!("{indent}  {line}").trim_end().to_owned());
        }
    }

    /// A list; there is no empty line between its items, nor before a list inside an item.
    fn list(&mut self, first: Option<u64>, items: &[Vec<Block>], indent: &str) {
        for (item, number) in items.iter().zip(first.unwrap_or_default()..) {
            let mark = if first.is_some() { format!("{number}. ") } else { "- ".to_owned() };
            let deeper = format!("{indent}{}", " ".repeat(mark.len()));
            for (at, block) in item.iter().enumerate() {
                match block {
                    Block::Paragraph(line) if at == 0 => self.wrapped(&self.styled(line), indent, &mark),
                    Block::List(first, items) => self.list(*first, items, &deeper),
                    _ => self.block(block, &deeper),
                }
            }
        }
    }

    fn table(&mut self, head: &[Vec<Span>], rows: &[Vec<Vec<Span>>], indent: &str) {
        let cells = |row: &[Vec<Span>]| row.iter().map(|cell| markdown::plain(cell)).collect::<Vec<_>>();
        let mut table: Table = Terminal { color: false, width: None }.table();
        let width = self.width.saturating_sub(indent.len());
        table.set_width(u16::try_from(width).unwrap_or(u16::MAX));
        table.set_content_arrangement(ContentArrangement::Dynamic);
        table.set_header(cells(head));
        rows.iter().for_each(|row| {
            table.add_row(cells(row));
        });
        self.lines.extend(table.to_string().lines().map(|line| format!("{indent}{line}").trim_end().to_owned()));
    }

    /// Adds a wrapped text. The first line has the mark; the other lines are indented by its width.
    fn wrapped(&mut self, text: &str, indent: &str, mark: &str) {
        let first = format!("{indent}{mark}");
        let rest = " ".repeat(first.len());
        let options = Options::new(self.width)
            .initial_indent(&first)
            .subsequent_indent(&rest)
            .word_separator(WordSeparator::AsciiSpace)
            .word_splitter(WordSplitter::NoHyphenation)
            .wrap_algorithm(WrapAlgorithm::FirstFit)
            .break_words(false);
        self.lines.extend(textwrap::wrap(text, options).iter().map(ToString::to_string));
    }

    /// Without colours, code keeps its backticks, which distinguish it from the text.
    fn styled(&self, line: &[Span]) -> String {
        let one = |span: &Span| match span.style {
            markdown::Style::Plain => span.text.clone(),
            markdown::Style::Strong => words(&span.text, |word| self.terminal.paint(HEADING, word)),
            markdown::Style::Emphasis => words(&span.text, |word| self.terminal.paint(Style::new().italic(), word)),
            markdown::Style::Code if self.terminal.color => words(&span.text, |word| self.terminal.paint(CODE, word)),
            markdown::Style::Code => format!("`{}`", span.text),
        };
        line.iter().map(one).collect()
    }

    fn gap(&mut self) {
        if self.lines.last().is_some_and(|line| !line.is_empty()) {
            self.lines.push(String::new());
        }
    }
}

/// Paints each word of a text separately.
fn words(text: &str, paint: impl Fn(&str) -> String) -> String {
    let one = |word: &str| if word.is_empty() { String::new() } else { paint(word) };
    text.split(' ').map(one).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guide::TOPICS;

    const PAGE: &str = "# Of *x*\n\nSome `code here` and **more**.\n\n## Next\n\n```sh\na  b\n\nc\n```\n\n- one two three four \
                        five\n- q\n  - r\n\n1. s\n\n| k | v |\n| - | - |\n| `a` | b |\n";

    #[test]
    fn plain_text_is_wrapped_and_indented() {
        let shown = text(PAGE, Terminal { color: false, width: Some(20) });
        let expected = "\
Of x

  Some `code here`
  and more.

Next

    a  b

    c

  - one two three
    four five
  - q
    - r

  1. s

  ┌───┬───┐
  │ k │ v │
  ├───┼───┤
  │ a │ b │
  └───┴───┘";
        assert_eq!(shown, expected);
    }

    #[test]
    fn styles_begin_and_end_with_each_word() {
        let shown = text("a `b c` **d**\n", Terminal { color: true, width: Some(80) });
        assert_eq!(shown, "  a \u{1b}[32mb\u{1b}[0m \u{1b}[32mc\u{1b}[0m \u{1b}[1md\u{1b}[0m");
    }

    #[test]
    fn no_page_is_wider_than_its_terminal_except_for_code() {
        for topic in TOPICS {
            for (width, widest) in [(Some(60), 60), (Some(300), WIDEST), (None, USUAL)] {
                let prose: Vec<Block> =
                    parse(topic.text).into_iter().filter(|block| !matches!(block, Block::Code(_))).collect();
                let mut sheet = Sheet { terminal: Terminal { color: false, width }, width: widest, lines: Vec::new() };
                prose.iter().for_each(|block| sheet.block(block, "  "));
                let line = sheet.lines.iter().max_by_key(|line| line.chars().count()).unwrap();
                let one_word = line.trim_start_matches([' ', '-']).split(' ').count() == 1;
                assert!(line.chars().count() <= widest || one_word, "{}: {line}", topic.name);
                assert!(!text(topic.text, Terminal { color: false, width }).contains('\u{1b}'), "{}", topic.name);
            }
        }
    }
}
