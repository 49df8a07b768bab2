//! What counts as the name of a user, in every store.

use cloakroom_core::{Error, ErrorKind, Result};

/// The longest name of a user, in bytes.
pub(crate) const MAX_USER_LEN: usize = 255;

/// Whether anybody can be bound under this name: it is 1 to 255 bytes.
pub(crate) const fn is_user(user: &str) -> bool {
    !user.is_empty() && user.len() <= MAX_USER_LEN
}

/// Checks the name of a user before somebody is bound to it.
///
/// # Errors
/// [`ErrorKind::Value`] of `bind` on `store` when it is empty or longer than 255 bytes.
pub(crate) fn check_user(store: &'static str, user: &str) -> Result<()> {
    if is_user(user) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Value).operation("bind").store(store).hint("a user is 1 to 255 bytes of text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_1_to_255_bytes_is_a_user() {
        for user in ["a", "$where", &"ä".repeat(127), &"u".repeat(255)] {
            assert!(check_user("river", user).is_ok());
        }
        for none in ["", &"canary".repeat(50), &"ä".repeat(128)] {
            let error = check_user("river", none).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Value);
            assert_eq!((error.failed_operation(), error.failed_store()), (Some("bind"), Some("river")));
            assert!(!error.to_string().contains("canary"));
        }
    }
}
