//! Proves a Cloakroom session store.
