//! Names of tables and schemas: checked, quoted, and put into the templates of statements.

use cloakroom_core::{Error, Result};

use super::Sql;

/// The longest name of a table, in bytes. The names of its companions are longer by up to 14, and 63 is what
/// PostgreSQL takes.
const MAX_LEN: usize = 48;

/// How the names of a table's companions and indexes end, those that a database makes by itself included. A table with
/// such a name could be another store's companion, which `CREATE … IF NOT EXISTS` takes for the one it is to make.
const COMPANIONS: [&str; 5] = ["_users", "_schema", "_by_user", "_by_end", "_pkey"];

/// How a dialect quotes a name.
#[allow(dead_code)] // One alone has no use for the other's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quote {
    /// `"name"`, as in the standard.
    Double,
    /// `` `name` ``, as in MySQL.
    Backtick,
}

/// The names of one store's tables, quoted.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    table: String,
    schema: Option<String>,
    quote: Quote,
}

impl Names {
    /// Checks the names.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](cloakroom_core::ErrorKind::Config) naming `table` or `schema`, without quoting it.
    pub(crate) fn new(table: &str, schema: Option<&str>, quote: Quote) -> Result<Self> {
        check("table", table)?;
        if let Some(schema) = schema {
            check("schema", schema)?;
        }
        Ok(Self { table: table.to_owned(), schema: schema.map(ToOwned::to_owned), quote })
    }

    /// As [`new`](Self::new), for a table of ours, which has companions.
    ///
    /// # Errors
    /// Also for a name that another table's companion may have.
    pub(crate) fn with_companions(table: &str, schema: Option<&str>, quote: Quote) -> Result<Self> {
        let names = Self::new(table, schema, quote)?;
        // In any case of its letters, since some databases do not tell them apart.
        let lower = table.to_ascii_lowercase();
        match COMPANIONS.iter().find(|companion| lower.ends_with(*companion)) {
            None => Ok(names),
            Some(companion) => Err(Error::config(
                "table",
                format!("must not end in {companion}: that is how a table beside another store's is called"),
            )),
        }
    }

    /// Returns the table's name as it was given.
    pub(crate) fn table(&self) -> &str {
        &self.table
    }

    /// Returns the schema's name as it was given.
    #[cfg(feature = "postgres")]
    pub(crate) fn schema(&self) -> Option<&str> {
        self.schema.as_deref()
    }

    /// Makes a statement: `{values}`, `{users}`, `{version}` become the tables, `{by_user}` and `{by_end}` the bare
    /// names of their indexes, `{schema}` that of the schema, and whatever else `replacing` names.
    pub(crate) fn render(&self, template: &str, replacing: &[(&str, &str)]) -> Sql {
        Sql::new(self.fill(template, replacing))
    }

    /// As [`render`](Self::render), as text.
    pub(crate) fn fill(&self, template: &str, replacing: &[(&str, &str)]) -> String {
        let mut text = template.to_owned();
        // First these, since they may hold names in their turn.
        for (placeholder, replacement) in replacing {
            text = text.replace(placeholder, replacement);
        }
        for (placeholder, suffix) in [("{values}", ""), ("{users}", "_users"), ("{version}", "_schema")] {
            text = text.replace(placeholder, &self.qualified(suffix));
        }
        for (placeholder, suffix) in [("{by_user}", "_users_by_user"), ("{by_end}", "_by_end")] {
            text = text.replace(placeholder, &self.quoted(&format!("{}{suffix}", self.table)));
        }
        match &self.schema {
            Some(schema) => text.replace("{schema}", &self.quoted(schema)),
            None => text,
        }
    }

    fn qualified(&self, suffix: &str) -> String {
        let table = self.quoted(&format!("{}{suffix}", self.table));
        match &self.schema {
            Some(schema) => format!("{}.{table}", self.quoted(schema)),
            None => table,
        }
    }

    /// Quotes a name. Nothing in it needs an escape: [`check`] let letters, digits and underscores through.
    fn quoted(&self, name: &str) -> String {
        match self.quote {
            Quote::Double => format!("\"{name}\""),
            Quote::Backtick => format!("`{name}`"),
        }
    }
}

fn check(field: &'static str, name: &str) -> Result<()> {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    let rest = bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if first && rest && name.len() <= MAX_LEN {
        return Ok(());
    }
    let cure =
        format!("must be 1 to {MAX_LEN} ASCII letters, digits and underscores, and not begin with a digit");
    Err(Error::config(field, cure))
}

#[cfg(test)]
mod tests {
    use cloakroom_core::ErrorKind;

    use super::*;

    #[test]
    fn hostile_names_are_refused_and_not_repeated() {
        let long = "a".repeat(MAX_LEN + 1);
        for name in [
            "",
            "1a",
            "a-b",
            "a b",
            "a.b",
            "s\"; drop table x; --",
            "s`; drop table x; --",
            "a'b",
            "a\0b",
            "ä",
            "{users}",
            "a\\",
            "a;b",
            "a/*",
            &long,
        ] {
            for (field, names) in [
                ("table", Names::new(name, None, Quote::Double)),
                ("schema", Names::new("fine", Some(name), Quote::Double)),
            ] {
                let error = names.expect_err(name);
                assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some(field)), "{name:?}");
                assert!(name.len() < 3 || !error.to_string().contains(name), "{error}");
            }
        }
    }

    #[test]
    fn names_that_companions_of_another_table_have_are_refused() {
        for name in
            ["a_users", "a_schema", "A_USERS", "_users", "a_users_by_user", "a_by_end", "a_users_pkey"]
        {
            let error = Names::with_companions(name, None, Quote::Double).expect_err(name);
            assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some("table")), "{name}");
            // A table of somebody else's has no companions.
            Names::new(name, None, Quote::Double).expect(name);
        }
        for name in ["users", "schema", "a_users_2", "a_usersx"] {
            Names::with_companions(name, Some("a_users"), Quote::Double).expect(name);
        }
        Names::with_companions("a b", None, Quote::Double).expect_err("and all that is refused anyway");
    }

    #[test]
    fn keywords_upper_case_and_the_longest_name_are_quoted_and_taken() {
        let long = "a".repeat(MAX_LEN);
        for name in ["select", "user", "ORDER", "_", "Sessions_2", &long] {
            let names = Names::new(name, None, Quote::Double).expect(name);
            assert_eq!(names.fill("{values}", &[]), format!("\"{name}\""));
        }
    }

    #[test]
    fn a_template_becomes_a_statement_with_quoted_names() {
        let names = Names::new("Table", Some("Schema"), Quote::Double).expect("fine names");
        let text = names.fill("{now} {values} {users} {version} {by_user} {schema}", &[("{now}", "1")]);
        assert_eq!(
            text,
            r#"1 "Schema"."Table" "Schema"."Table_users" "Schema"."Table_schema" "Table_users_by_user" "Schema""#
        );
    }

    #[test]
    fn the_dialect_decides_about_the_quotes() {
        let names = Names::new("order", None, Quote::Backtick).expect("fine name");
        assert_eq!(names.fill("{values}.{by_end}", &[]), "`order`.`order_by_end`");
    }
}
