//! Tables and collections of the usual session stores of Node, read and written in their own shape.
//!
//! For the time in which a Node program and this one share their sessions: give one of these to the layer together with
//! the profile of the Node framework. A store of this crate that has a table of its own is better at everything else,
//! so move there when Node is gone ([`Migrating`](crate::Migrating)).
//!
//! The values are the JSON texts that a foreign profile writes, and nothing else. Whatever is no JSON is refused with
//! [`ErrorKind::Value`](crate::ErrorKind::Value), and the row stays as it was.
//!
//! | Node's store | shape | the profile it goes with |
//! |---|---|---|
//! | koa-redis, connect-redis | [`RedisStore`](crate::RedisStore) with an empty prefix | Koa's, Express's |
//! | connect-pg-simple | [`ConnectPgSimple`] | Express's |
//! | koa-pg-session | [`KoaPgSession`] | Koa's |
//! | connect-mongo | [`ConnectMongo`] | Express's |
//! | koa-mysql-session | [`KoaMysqlSession`] | Koa's |
//! | koa-sqlite3-session | [`KoaSqlite3Session`] | Koa's |
//! | koa-generic-session-mongo | [`KoaGenericSessionMongo`] | Koa's |

#[cfg(feature = "mongo")]
mod bson_json;
#[cfg(feature = "mongo")]
mod connect_mongo;
#[cfg(feature = "postgres")]
mod connect_pg_simple;
#[cfg(any(feature = "mongo", feature = "mysql", feature = "sqlite"))]
mod json;
#[cfg(feature = "mongo")]
mod koa_generic_session_mongo;
#[cfg(feature = "mysql")]
mod koa_mysql_session;
#[cfg(feature = "postgres")]
mod koa_pg_session;
#[cfg(feature = "sqlite")]
mod koa_sqlite3_session;
#[cfg(feature = "postgres")]
mod postgres;

#[cfg(feature = "mysql")]
pub use self::koa_mysql_session::{KoaMysqlSession, KoaMysqlSessionBuilder};
#[cfg(feature = "sqlite")]
pub use self::koa_sqlite3_session::{KoaSqlite3Session, KoaSqlite3SessionBuilder};
#[cfg(feature = "mongo")]
pub use self::{
    connect_mongo::{ConnectMongo, ConnectMongoBuilder},
    koa_generic_session_mongo::{KoaGenericSessionMongo, KoaGenericSessionMongoBuilder},
};
#[cfg(feature = "postgres")]
pub use self::{
    connect_pg_simple::ConnectPgSimple, koa_pg_session::KoaPgSession, postgres::PostgresShapeBuilder,
};
