//! The guide: what people read before they look into the help of one command. `pmr help TOPIC` shows a page on the
//! terminal, `pmr man` writes them as manual pages, and each is a module here, so it stands in the reference as well.
//!
//! The pages are Markdown. All but one are written by hand; [`keys`] is made from the table of keys ([`key_page`]), as
//! is the JSON Schema of config files ([`schema`]). PURE: text in, text out.

pub mod key_page;
pub mod markdown;
pub mod roff;
pub mod schema;

/// A page of the guide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topic {
    /// The word behind `pmr help`.
    pub name: &'static str,
    /// The page, in Markdown. Its first line is its heading.
    pub text: &'static str,
}

impl Topic {
    /// The page's heading.
    #[must_use]
    pub fn title(&self) -> &'static str {
        self.text.lines().next().unwrap_or_default().trim_start_matches('#').trim()
    }

    /// The name of its manual page, which is in section 7.
    #[must_use]
    pub fn manual(&self) -> String {
        format!("pmr-guide-{}", self.name)
    }
}

/// Each page from its file, as a module and as a topic, in reading order.
macro_rules! pages {
    ($($name:ident)*) => {
        $(
            #[doc = include_str!(concat!(stringify!($name), ".md"))]
            pub mod $name {}
        )*

        /// All topics, in reading order.
        pub static TOPICS: &[Topic] = &[
            $(Topic { name: stringify!($name), text: include_str!(concat!(stringify!($name), ".md")) }),*
        ];
    };
}

pages!(start cluster reload health logs sockets limits boot recovery security pm2 keys);

/// The topic of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Topic> {
    TOPICS.iter().find(|topic| topic.name == name)
}

#[cfg(test)]
mod tests;
