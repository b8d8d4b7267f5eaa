//! One page over HTTP/1.1. Hyper reads and writes; sockets, tasks and time come through `Env`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use ottla_env::{Env, Listener, Stream};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::sync::Semaphore;
use tracing::{debug, warn};

/// Who asks at once; others wait to be accepted.
const MAX_CONNECTIONS: usize = 8;
/// How long a connection may take for its one request.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait after a connection could not be accepted.
const BACKOFF: Duration = Duration::from_millis(100);
/// Bytes of a request's head.
const MAX_HEAD: usize = 8192;
const TEXT: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// Answers whoever connects, until the task is aborted.
pub(super) async fn serve(env: Env, mut listener: Box<dyn Listener>, registry: Arc<Registry>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    // It is never closed.
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!(%error, "cannot accept a connection for metrics");
                env.clock.sleep(BACKOFF).await;
                continue;
            }
        };
        let (answering, registry) = (env.clone(), Arc::clone(&registry));
        env.spawn("metrics connection", async move {
            answer_one(&answering, stream, registry).await;
            drop(place);
        });
    }
}

async fn answer_one(env: &Env, stream: Box<dyn Stream>, registry: Arc<Registry>) {
    let service = service_fn(|request: Request<Incoming>| {
        let (env, registry) = (env.clone(), Arc::clone(&registry));
        async move { Ok::<_, Infallible>(answer(&env, request, registry).await) }
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    match env.timeout(PATIENCE, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "a connection for metrics failed"),
        Err(_elapsed) => debug!("a connection for metrics took too long"),
    }
}

async fn answer(
    env: &Env,
    request: Request<Incoming>,
    registry: Arc<Registry>,
) -> Response<Full<Bytes>> {
    if request.uri().path() != "/metrics" {
        return plain(StatusCode::NOT_FOUND, "there is /metrics only\n".to_owned());
    }
    if request.method() != Method::GET {
        let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, String::new());
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
        return refused;
    }
    // File systems are asked for their room.
    let encoded = env.run_blocking(move || {
        let mut text = String::new();
        encode(&mut text, &registry).map(|()| text)
    });
    match encoded.await {
        Ok(text) => {
            let mut page = plain(StatusCode::OK, text);
            page.headers_mut().insert(CONTENT_TYPE, TEXT);
            page
        }
        Err(error) => {
            warn!(%error, "the metrics could not be written");
            plain(StatusCode::INTERNAL_SERVER_ERROR, String::new())
        }
    }
}

fn plain(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response
}
