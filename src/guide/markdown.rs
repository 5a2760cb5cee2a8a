//! A page of the guide as blocks of text: what the terminal and the manual pages are rendered from.
//!
//! The parser is `pulldown-cmark`; here its events become a tree of the parts of Markdown that the guide uses. What it
//! does not use (images, HTML, footnotes) is left out; the text of a link stays, with its address if that leads out of
//! the guide.

use std::iter::Peekable;

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

/// A part of a page that stands by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Block {
    /// A heading of a rank from 1 to 6.
    Heading(u8, Line),
    /// Text that is wrapped.
    Paragraph(Line),
    /// Text that is not: its lines, without a line end after the last.
    Code(String),
    /// Items with a dash, or with numbers from the given one.
    List(Option<u64>, Vec<Vec<Block>>),
    /// The head and the rows.
    Table(Vec<Line>, Vec<Vec<Line>>),
    /// A block quotation.
    Quote(Vec<Block>),
}

/// Pieces of text in a row.
pub type Line = Vec<Span>;

/// Text in one style. It holds no line ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// What it says.
    pub text: String,
    /// How it looks.
    pub style: Style,
}

/// How a piece of text looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// As the text around.
    Plain,
    /// Bold.
    Strong,
    /// Italic.
    Emphasis,
    /// What is typed or read by a program.
    Code,
}

type Events<'a> = Peekable<Parser<'a>>;

/// Reads a page.
#[must_use]
pub fn parse(text: &str) -> Vec<Block> {
    blocks(&mut Parser::new_ext(text, Options::ENABLE_TABLES).peekable())
}

/// A line without its styles.
#[must_use]
pub fn plain(line: &[Span]) -> String {
    line.iter().map(|span| span.text.as_str()).collect()
}

/// All blocks up to the end of what holds them. Text that stands in an item of a tight list without a paragraph of its
/// own becomes one.
fn blocks(events: &mut Events<'_>) -> Vec<Block> {
    let mut found = Vec::new();
    loop {
        if events.peek().is_some_and(is_inline) {
            found.push(Block::Paragraph(line(events, false)));
            continue;
        }
        match events.next() {
            None | Some(Event::End(_)) => return found,
            Some(Event::Start(tag)) => found.extend(block(&tag, events)),
            Some(_) => {}
        }
    }
}

fn block(tag: &Tag<'_>, events: &mut Events<'_>) -> Option<Block> {
    Some(match tag {
        Tag::Heading { level, .. } => Block::Heading(*level as u8, line(events, true)),
        Tag::Paragraph => Block::Paragraph(line(events, true)),
        Tag::CodeBlock(_) => Block::Code(code(events)),
        Tag::List(first) => Block::List(*first, children(events)),
        Tag::BlockQuote(_) => Block::Quote(blocks(events)),
        Tag::Table(_) => table(events),
        _ => {
            blocks(events);
            return None;
        }
    })
}

/// The items of a list.
fn children(events: &mut Events<'_>) -> Vec<Vec<Block>> {
    let mut items = Vec::new();
    while let Some(Event::Start(_)) = events.next() {
        items.push(blocks(events));
    }
    items
}

fn code(events: &mut Events<'_>) -> String {
    let mut code = String::new();
    while let Some(Event::Text(text)) = events.next() {
        code.push_str(&text);
    }
    code.trim_end_matches('\n').to_owned()
}

fn table(events: &mut Events<'_>) -> Block {
    let (mut head, mut rows) = (Vec::new(), Vec::new());
    loop {
        match events.next() {
            Some(Event::Start(Tag::TableHead)) => head = cells(events),
            Some(Event::Start(Tag::TableRow)) => rows.push(cells(events)),
            _ => return Block::Table(head, rows),
        }
    }
}

fn cells(events: &mut Events<'_>) -> Vec<Line> {
    let mut cells = Vec::new();
    while let Some(Event::Start(Tag::TableCell)) = events.next() {
        cells.push(line(events, true));
    }
    cells
}

fn is_inline(event: &Event<'_>) -> bool {
    match event {
        Event::Start(tag) => is_style(tag.to_end()),
        Event::Text(_) | Event::Code(_) | Event::SoftBreak | Event::HardBreak => true,
        _ => false,
    }
}

fn is_style(tag: TagEnd) -> bool {
    matches!(tag, TagEnd::Strong | TagEnd::Emphasis | TagEnd::Link)
}

/// The text up to the end of its block; the end is taken off if it is that of the text alone.
fn line(events: &mut Events<'_>, own_end: bool) -> Line {
    let mut spans = Line::new();
    let mut styles = vec![Style::Plain];
    let mut addresses = Vec::new();
    while events.peek().is_some_and(|event| is_inline(event) || matches!(event, Event::End(tag) if is_style(*tag))) {
        let style = styles.last().copied().unwrap_or(Style::Plain);
        match events.next() {
            Some(Event::Start(Tag::Strong)) => styles.push(Style::Strong),
            Some(Event::Start(Tag::Emphasis)) => styles.push(Style::Emphasis),
            Some(Event::Start(Tag::Link { dest_url, .. })) => {
                styles.push(style);
                addresses.push(dest_url);
            }
            Some(Event::End(tag)) => {
                styles.pop();
                let address = if tag == TagEnd::Link { addresses.pop() } else { None };
                spans.extend(address.and_then(|address| outside(&address, &spans)));
            }
            Some(Event::Text(text)) => spans.push(Span { text: text.into_string(), style }),
            Some(Event::Code(text)) => spans.push(Span { text: text.into_string(), style: Style::Code }),
            _ => spans.push(Span { text: " ".to_owned(), style: Style::Plain }),
        }
    }
    if own_end {
        events.next();
    }
    spans
}

/// The address of a link in brackets, if it leads out of the guide and is not the text itself.
fn outside(address: &str, before: &[Span]) -> Option<Span> {
    let shown = before.last().is_some_and(|span| span.text == address);
    let leads_out = address.starts_with("https://") || address.starts_with("http://");
    (leads_out && !shown).then(|| Span { text: format!(" ({address})"), style: Style::Plain })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(text: &str, style: Style) -> Span {
        Span { text: text.to_owned(), style }
    }

    fn text(text: &str) -> Line {
        vec![span(text, Style::Plain)]
    }

    #[test]
    fn blocks_are_told_apart() {
        let page = "# A `b`\n\none\ntwo\n\n```sh\nx  y\n\nz\n```\n\n- p\n- q\n  - r\n\n3. s\n\n> t\n";
        let item = |text: Line| vec![Block::Paragraph(text)];
        let nested = vec![Block::Paragraph(text("q")), Block::List(None, vec![item(text("r"))])];
        let expected = [
            Block::Heading(1, vec![span("A ", Style::Plain), span("b", Style::Code)]),
            Block::Paragraph(vec![span("one", Style::Plain), span(" ", Style::Plain), span("two", Style::Plain)]),
            Block::Code("x  y\n\nz".to_owned()),
            Block::List(None, vec![item(text("p")), nested]),
            Block::List(Some(3), vec![item(text("s"))]),
            Block::Quote(item(text("t"))),
        ];
        assert_eq!(parse(page), expected);
    }

    #[test]
    fn tables_have_a_head_and_rows() {
        let rows = vec![vec![text("1"), vec![span("2", Style::Code)]], vec![text("3"), vec![]]];
        let table = Block::Table(vec![text("a"), text("b")], rows);
        assert_eq!(parse("| a | b |\n| --- | --- |\n| 1 | `2` |\n| 3 | |\n"), [table]);
    }

    #[test]
    fn styles_end_and_links_say_where_they_lead() {
        let line = |page: &str| match parse(page).remove(0) {
            Block::Paragraph(line) => line,
            other => panic!("{other:?}"),
        };
        let expected = [
            span("a ", Style::Plain),
            span("b", Style::Strong),
            span(" ", Style::Plain),
            span("c", Style::Emphasis),
            span(" d", Style::Plain),
        ];
        assert_eq!(line("a **b** *c* d"), expected);
        assert_eq!(plain(&line("see [health](health.md) now")), "see health now");
        assert_eq!(plain(&line("see [systemd](https://systemd.io) now")), "see systemd (https://systemd.io) now");
        assert_eq!(plain(&line("<https://systemd.io>")), "https://systemd.io");
    }

    #[test]
    fn what_is_not_used_leaves_the_rest_alone() {
        assert_eq!(parse("<div>\nx\n</div>\n\na\n"), [Block::Paragraph(text("a"))]);
        assert_eq!(parse("a\n\n---\n\nb\n").len(), 2);
        assert_eq!(parse(""), []);
    }
}
