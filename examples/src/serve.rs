//! Serves an app on this machine alone, until Ctrl-C or SIGTERM.

use std::{
    env,
    ffi::OsString,
    future::{Future, IntoFuture, pending},
    io::{self, ErrorKind, Write},
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use axum::Router;
use tokio::{net::TcpListener, select, signal, time::sleep};

use crate::failure::Failure;

/// The port unless `PORT` says otherwise.
const PORT: u16 = 3000;

/// How long open connections may take to end once the server has been asked to stop.
const GRACE: Duration = Duration::from_secs(5);

/// Serves `app` on 127.0.0.1 and the port in `PORT` (3000 without it, any free one for 0), and prints the address.
///
/// Returns after Ctrl-C or SIGTERM, once the requests under way are answered, at most 5 seconds later.
///
/// # Errors
/// A [`Failure`] when `PORT` is no port, or the port cannot be had.
pub async fn serve(app: Router) -> Result<(), Failure> {
    let listener = listen(port(env::var_os("PORT"))?).await?;
    // Nobody may be reading what is printed here, which is no reason to stop.
    let _ = writeln!(io::stdout(), "Open http://{} in a browser. Ctrl-C stops.", listener.local_addr()?);
    serve_on(listener, app, stop_asked).await
}

async fn serve_on<F: Future<Output = ()> + Send + 'static>(
    listener: TcpListener,
    app: Router,
    stop: impl Fn() -> F,
) -> Result<(), Failure> {
    let server = axum::serve(listener, app).with_graceful_shutdown(stop());
    select! {
        served = server.into_future() => Ok(served?),
        // A browser keeps connections open that it may never use again: they are not waited for without end.
        () = async { stop().await; sleep(GRACE).await } => Ok(()),
    }
}

/// Reads the port out of the environment.
fn port(text: Option<OsString>) -> Result<u16, Failure> {
    let Some(text) = text else { return Ok(PORT) };
    text.to_str().and_then(|text| text.parse().ok()).ok_or_else(|| {
        Failure::new(format!(
            "PORT is {text:?}, which is no port: set it to a number up to 65535, or leave it out for {PORT}"
        ))
    })
}

async fn listen(port: u16) -> Result<TcpListener, Failure> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpListener::bind(address).await.map_err(|error| {
        Failure::new(match error.kind() {
            ErrorKind::AddrInUse => format!(
                "port {port} is already in use: stop the program that has it, or set PORT to another one, or to 0 \
                 for any that is free"
            ),
            ErrorKind::PermissionDenied => {
                format!("port {port} is reserved for administrators: set PORT to a number from 1024")
            }
            _ => format!("cannot listen on {address}: {error}"),
        })
    })
}

/// Waits until Ctrl-C or SIGTERM asks to stop.
async fn stop_asked() {
    #[cfg(unix)]
    let terminated = async {
        match signal::unix::signal(signal::unix::SignalKind::terminate()) {
            Ok(mut signals) => {
                signals.recv().await;
            }
            Err(_) => pending().await,
        }
    };
    #[cfg(not(unix))]
    let terminated = pending::<()>();
    let interrupted = async {
        if signal::ctrl_c().await.is_err() {
            pending().await
        }
    };
    select! {
        () = interrupted => {}
        () = terminated => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_port_it_is_3000() {
        assert_eq!(port(None).unwrap(), 3000);
        assert_eq!(port(Some("8080".into())).unwrap(), 8080);
    }

    #[test]
    fn what_is_no_port_is_named_with_the_cure() {
        for wrong in ["", "web", "-1", "65536", "3000 "] {
            let failure = format!("{:?}", port(Some(wrong.into())).unwrap_err());
            assert!(failure.contains(wrong) && failure.contains("leave it out"), "{failure}");
            assert!(!failure.contains('\n'), "{failure}");
        }
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_named_with_the_cure() {
        let taken = listen(0).await.unwrap();
        let port = taken.local_addr().unwrap().port();
        let failure = format!("{:?}", listen(port).await.unwrap_err());
        assert!(failure.contains(&port.to_string()) && failure.contains("set PORT"), "{failure}");
        assert!(!failure.contains('\n'), "{failure}");
    }
}
