//! A page of the guide as a manual page.
//!
//! Written for `man` of every kind: only the classic macros, and `tbl` for tables, which the first line asks for.

use roff::{Inline, Roff, bold, italic, roman};

use super::Topic;
use super::markdown::{Block, Span, Style, parse, plain};

/// Asks `man` to run the page through `tbl`.
const WITH_TABLES: &str = "'\\\" t\n";
/// How far items and code are indented, in characters.
const INDENT: &str = "4";

/// The manual page of a topic, in section 7. `version` is pmr's; `see` are the pages it refers to at its end, such as
/// `pmr(1)`.
#[must_use]
pub fn manual(topic: &Topic, version: &str, see: &[String]) -> String {
    let name = topic.manual();
    let mut page = Roff::new();
    page.control("TH", [&*name.to_uppercase(), "7", "", &*format!("pmr {version}"), "The pmr guide"]);
    page.control("SH", ["NAME"]).text([roman(format!("{name} - {}", topic.title()))]);
    page.control("SH", ["DESCRIPTION"]);
    for block in parse(topic.text).iter().filter(|block| !matches!(block, Block::Heading(1, _))) {
        put(&mut page, block);
    }
    see_also(&mut page, see);
    format!("{WITH_TABLES}{}", page.render())
}

/// The last section of a page.
pub fn see_also(page: &mut Roff, pages: &[String]) {
    if !pages.is_empty() {
        page.control("SH", ["SEE ALSO"]).text([roman(pages.join(", "))]);
    }
}

/// Lines that keep their ends and blanks, indented.
pub fn verbatim(page: &mut Roff, text: &str) {
    page.control("PP", []).control("RS", [INDENT]).control("nf", []);
    for line in text.lines() {
        page.text([roman(line)]);
    }
    page.control("fi", []).control("RE", []);
}

fn put(page: &mut Roff, block: &Block) {
    match block {
        Block::Heading(rank, line) => {
            let macro_name = if *rank <= 2 { "SH" } else { "SS" };
            page.control(macro_name, [&*argument(&plain(line))]);
        }
        Block::Paragraph(line) => {
            page.control("PP", []).text(inlines(line));
        }
        Block::Code(text) => verbatim(page, text),
        Block::List(first, items) => list(page, *first, items),
        Block::Table(head, rows) => table(page, head, rows),
        Block::Quote(blocks) => indented(page, blocks),
    }
}

fn indented(page: &mut Roff, blocks: &[Block]) {
    page.control("RS", [INDENT]);
    blocks.iter().for_each(|block| put(page, block));
    page.control("RE", []);
}

fn list(page: &mut Roff, first: Option<u64>, items: &[Vec<Block>]) {
    for (item, number) in items.iter().zip(first.unwrap_or_default()..) {
        let mark = if first.is_some() { format!("{number}.") } else { "\\(bu".to_owned() };
        page.control("IP", [&*mark, INDENT]);
        // From the second on they stand close together.
        page.control("PD", ["0"]);
        match item.split_first() {
            Some((Block::Paragraph(line), rest)) => {
                page.text(inlines(line));
                if !rest.is_empty() {
                    indented(page, rest);
                }
            }
            _ => indented(page, item),
        }
    }
    page.control("PD", []);
}

/// All columns but the last are as wide as they need; the last one is wrapped.
fn table(page: &mut Roff, head: &[Vec<Span>], rows: &[Vec<Vec<Span>>]) {
    let columns = |format: &str, last: &str| {
        let mut formats = vec![format; head.len().saturating_sub(1)];
        formats.push(last);
        formats.join(" ")
    };
    page.control("PP", []).control("TS", []);
    page.text([roman(columns("lB", "lBx"))]).text([roman(format!("{}.", columns("l", "lx")))]);
    page.text([roman(head.iter().map(|cell| plain(cell)).collect::<Vec<_>>().join("\t"))]);
    for row in rows {
        let Some((last, others)) = row.split_last() else { continue };
        let mut line: Vec<Inline> = Vec::new();
        for cell in others {
            line.extend(inlines(cell));
            line.push(roman("\t"));
        }
        line.push(roman("T{"));
        page.text(line).text(inlines(last)).text([roman("T}")]);
    }
    page.control("TE", []);
}

fn inlines(line: &[Span]) -> Vec<Inline> {
    let one = |span: &Span| match span.style {
        Style::Plain => roman(&*span.text),
        Style::Strong | Style::Code => bold(&*span.text),
        Style::Emphasis => italic(&*span.text),
    };
    line.iter().map(one).collect()
}

/// An argument of a macro, which the crate puts in quotes as it is.
fn argument(text: &str) -> String {
    text.replace('\\', "\\e").replace('"', "\\(dq").replace('-', "\\-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(text: &'static str) -> String {
        let page = manual(&Topic { name: "x", text }, "1.0", &["pmr(1)".to_owned()]);
        page.split_once(".SH DESCRIPTION\n").map(|(_, body)| body.to_owned()).unwrap()
    }

    #[test]
    fn a_page_names_itself_and_where_to_go_on() {
        let page = manual(&Topic { name: "x", text: "# Of x\n\na\n" }, "1.0", &["pmr(1)".to_owned()]);
        assert!(page.starts_with("'\\\" t\n"), "{page}");
        assert!(page.contains(".TH PMR-GUIDE-X 7  \"pmr 1.0\" \"The pmr guide\"\n"), "{page}");
        assert!(page.contains(".SH NAME\npmr\\-guide\\-x \\- Of x\n"), "{page}");
        assert!(page.ends_with(".PP\na\n.SH \"SEE ALSO\"\npmr(1)\n"), "{page}");
    }

    #[test]
    fn text_is_never_taken_for_a_request() {
        let body = body("# X\n\n.so /etc/passwd\n\n```sh\n.bp\n'x \\n\n```\n");
        assert!(body.contains("\n\\&.so /etc/passwd\n"), "{body}");
        assert!(body.contains(".nf\n\\&.bp\n\\*(Aqx \\\\n\n.fi\n"), "{body}");
    }

    #[test]
    fn lists_tables_and_headings() {
        let body = body("# X\n\n## A `b-c`\n\n- p **q**\n  - r\n\n| k | v |\n| - | - |\n| `a` | b c |\n");
        assert!(
            body.contains(
                ".SH \"A b\\-c\"\n.IP \\(bu 4\n.PD 0\np \\fBq\\fR\n.RS 4\n.IP \\(bu 4\n.PD 0\nr\n.PD\n.RE\n.PD\n"
            ),
            "{body}"
        );
        assert!(body.contains(".TS\nlB lBx\nl lx.\nk\tv\n\\fBa\\fR\tT{\nb c\nT}\n.TE\n"), "{body}");
    }
}
