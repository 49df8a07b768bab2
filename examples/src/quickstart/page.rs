//! The quickstart's page. `maud` escapes everything that is spliced in.

use std::time::SystemTime;

use axum::http::StatusCode;
use cloakroom::{Result, Session, SessionId};
use maud::{DOCTYPE, Markup, html};

use super::{MAX_TEXT, number};
use crate::human::spoken;

/// Everything the page shows.
pub(super) struct Page {
    pub(super) name: Option<String>,
    pub(super) count: u64,
    pub(super) cart: Vec<String>,
    /// Shown once: taken out of the session already.
    pub(super) notes: Vec<String>,
    pub(super) ticket: Ticket,
}

/// What a visitor may know about their own session.
pub(super) struct Ticket {
    /// The short hash; `None` if nothing is stored yet.
    number: Option<String>,
    /// One of the style sheet's colours, so that a change of the id catches the eye.
    colour: &'static str,
    began: String,
    ends: String,
    user: Option<String>,
    /// Keys with their values as JSON.
    data: Vec<(String, String)>,
}

impl Ticket {
    /// Reads the session.
    ///
    /// # Errors
    /// None that a stored value can cause: every one of them is JSON.
    pub(super) fn of(session: &Session) -> Result<Self> {
        let now = SystemTime::now();
        let mut data = Vec::new();
        for key in session.keys() {
            let value: serde_json::Value = session.get(&key)?.unwrap_or_default();
            data.push((key, format!("{value:#}")));
        }
        let id = session.id().filter(|_| !session.is_new());
        Ok(Self {
            colour: id.as_ref().map_or("blank", colour),
            number: id.as_ref().map(number),
            began: spoken(now.duration_since(session.created_at()).unwrap_or_default()),
            ends: spoken(session.expires_at().duration_since(now).unwrap_or_default()),
            user: session.user(),
            data,
        })
    }
}

impl Page {
    /// Makes the HTML.
    pub(super) fn render(&self) -> Markup {
        frame(
            "Cloakroom quickstart",
            &html! {
                header.masthead {
                    h1 { "Cloakroom" }
                    p { "Hand in your coat, keep the ticket, come back for it." }
                }
                @if !self.notes.is_empty() {
                    ul.notes role="status" aria-label="What just happened" {
                        @for note in &self.notes { li { (note) } }
                    }
                }
                (self.ticket.stub())
                div.rooms {
                    (self.who())
                    (self.counter())
                    (self.cart())
                    (self.ticket.contents())
                }
                (colophon())
            },
        )
    }

    fn who(&self) -> Markup {
        html! {
            section aria-labelledby="who" {
                @if let Some(name) = &self.name {
                    h2 #who { "Hello, " span.name { (name) } }
                    p {
                        "Log in with the same name in a private window, then end that session from here: "
                        code { "bind_user" } " and " code { "destroy_others" } "."
                    }
                    div.row {
                        form method="post" action="/others/end" { button.quiet { "End my other sessions" } }
                        form method="post" action="/logout" { button.quiet { "Log out" } }
                    }
                    p.aside {
                        "Logging out removes the record at once, with " code { "destroy" } ". A request that is still "
                        "under way cannot bring it back."
                    }
                } @else {
                    h2 #who { "Who are you?" }
                    form.row method="post" action="/login" {
                        label for="name" { "Your name" }
                        input #name name="name" required maxlength=(MAX_TEXT) autocomplete="nickname"
                            placeholder="Any name will do";
                        button { "Log in" }
                    }
                    p.aside {
                        "Logging in calls " code { "cycle_id" } ": the ticket gets a new number and what you left here "
                        "stays. An id that somebody saw or planted before is worth nothing from then on. There are no "
                        "passwords here: whoever gives a name is that user."
                    }
                }
            }
        }
    }

    fn counter(&self) -> Markup {
        html! {
            section aria-labelledby="counter" {
                h2 #counter { "Counter" }
                form.tally method="post" action="/count" {
                    output.figure aria-label="Count" { (self.count) }
                    button { "Count" }
                }
                p.aside {
                    "Each press is stored before it is answered, with " code { "update_now" } ": of any number of "
                    "requests at once, no two get the same number."
                }
            }
        }
    }

    fn cart(&self) -> Markup {
        html! {
            section aria-labelledby="cart" {
                h2 #cart { "Cart" }
                @if self.cart.is_empty() {
                    p.empty { "Nothing in it yet." }
                } @else {
                    ul.things {
                        @for thing in &self.cart {
                            li {
                                span { (thing) }
                                form method="post" action="/cart/remove" {
                                    input type="hidden" name="thing" value=(thing);
                                    button.quiet.small aria-label={ "Remove " (thing) } { "Remove" }
                                }
                            }
                        }
                    }
                }
                form.row method="post" action="/cart/add" {
                    label for="thing" { "Something to keep" }
                    input #thing name="thing" required maxlength=(MAX_TEXT) autocomplete="off" placeholder="A coat";
                    button { "Add" }
                }
                p.aside {
                    "Open " a href="/" target="_blank" rel="noopener" { "a second tab" } " and fill the cart from both "
                    "at once: " code { "update" } " does your change again on whatever the other tab stored first, so "
                    "nothing is lost."
                }
            }
        }
    }
}

impl Ticket {
    fn stub(&self) -> Markup {
        html! {
            section.ticket.(self.colour) aria-labelledby="ticket" {
                div.number {
                    h2 #ticket { "Your ticket" }
                    p { @if let Some(number) = &self.number { (number) } @else { "none yet" } }
                }
                @if self.number.is_some() {
                    dl {
                        div { dt { "Record" } dd { "stored" } }
                        div { dt { "Began" } dd { (self.began) " ago" } }
                        div { dt { "Ends" } dd { "in " (self.ends) " if unused" } }
                        div { dt { "User" } dd { (self.user.as_deref().unwrap_or("nobody")) } }
                    }
                } @else {
                    p.new {
                        "New, and nothing is stored. Looking around leaves no record and sets no cookie; the first "
                        "thing you hand in does both."
                    }
                }
            }
        }
    }

    fn contents(&self) -> Markup {
        html! {
            section aria-labelledby="contents" {
                h2 #contents { "What the server holds" }
                @if self.data.is_empty() {
                    p.empty { "Nothing under this ticket." }
                } @else {
                    dl.data {
                        @for (key, value) in &self.data {
                            dt { (key) }
                            dd { pre { (value) } }
                        }
                    }
                }
                p.aside {
                    "The browser holds the ticket's id and nothing else. The number on the ticket is a short hash of "
                    "it, safe to show and to log."
                }
            }
        }
    }
}

fn colour(id: &SessionId) -> &'static str {
    const COLOURS: [&str; 6] = ["rose", "amber", "lime", "mint", "sky", "lilac"];
    let sum: usize = number(id).bytes().map(usize::from).sum();
    COLOURS[sum % COLOURS.len()]
}

/// Makes the page for an answer that is an error.
pub(super) fn sorry(status: StatusCode) -> Markup {
    let (title, advice) = match status {
        StatusCode::NOT_FOUND => ("There is nothing here", "The quickstart has one page."),
        StatusCode::FORBIDDEN => ("Refused", "This was posted by a page of another site."),
        StatusCode::CONFLICT => (
            "Your session ended meanwhile",
            "It was logged out, or moved to a new id by a login, while this request was under way. Nothing was changed.",
        ),
        status if status.is_server_error() => {
            ("The session could not be read or saved", "Please try again in a moment.")
        }
        _ => ("That did not work", "The request was not one the page's own forms make."),
    };
    frame(
        title,
        &html! {
            header.masthead {
                h1 { (title) }
                p { (advice) }
            }
            p { a href="/" { "Back to the page" } }
        },
    )
}

fn frame(title: &str, content: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                link rel="icon" href="/icon.svg" type="image/svg+xml";
                link rel="stylesheet" href="/style.css";
            }
            body { main { (content) } }
        }
    }
}

fn colophon() -> Markup {
    html! {
        footer {
            p {
                "Every form posts and is answered with 303, so a reload repeats nothing. The cookie is "
                code { "HttpOnly" } " and " code { "SameSite=Lax" } ": scripts cannot read it, and browsers leave it out "
                "of what other sites post here. It lacks " code { "Secure" } " because this is plain http on your own "
                "machine; the default has it."
            }
            p { "No scripts, nothing loaded from elsewhere. The code is in " code { "examples/src/quickstart.rs" } "." }
        }
    }
}
