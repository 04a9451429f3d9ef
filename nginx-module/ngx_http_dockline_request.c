
/* SPDX-License-Identifier: MIT */


#include "ngx_http_dockline.h"


static ngx_int_t ngx_http_dockline_plan(ngx_http_request_t *r,
    ngx_http_dockline_ctx_t *ctx);
static ngx_int_t ngx_http_dockline_refuse(ngx_http_request_t *r,
    ngx_uint_t status);
static ngx_int_t ngx_http_dockline_read_body(ngx_http_request_t *r,
    ngx_http_dockline_ctx_t *ctx);
static void ngx_http_dockline_body_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_dockline_bound_body(ngx_http_request_t *r);
static ngx_int_t ngx_http_dockline_follow(ngx_http_request_t *r,
    ngx_http_dockline_ctx_t *ctx);
static ngx_http_core_loc_conf_t *ngx_http_dockline_copy_location(
    ngx_http_request_t *r, ngx_pool_t *pool, void ***copy);

static ngx_int_t ngx_http_dockline_arm(ngx_http_request_t *r,
    ngx_http_dockline_ctx_t *ctx);
static ngx_int_t ngx_http_dockline_process_header(ngx_http_request_t *r);
static ngx_int_t ngx_http_dockline_reinit_request(ngx_http_request_t *r);
static ngx_int_t ngx_http_dockline_call(ngx_http_request_t *r,
    ngx_http_dockline_ctx_t *ctx, ngx_int_t (*handler)(ngx_http_request_t *r));


ngx_int_t
ngx_http_dockline_precontent_handler(ngx_http_request_t *r)
{
    ngx_http_dockline_ctx_t       *ctx;
    ngx_http_dockline_loc_conf_t  *dlcf;

    dlcf = ngx_http_get_module_loc_conf(r, ngx_http_dockline_module);

    if (!dlcf->enable || r != r->main) {
        return NGX_DECLINED;
    }

    ctx = ngx_http_get_module_ctx(r, ngx_http_dockline_module);

    if (ctx) {
        return ctx->status;
    }

    ctx = ngx_pcalloc(r->pool, sizeof(ngx_http_dockline_ctx_t));
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ctx->request = r;
    ctx->status = NGX_DECLINED;

    if (ngx_http_dockline_plan(r, ctx) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_http_set_ctx(r, ctx, ngx_http_dockline_module);

    if (ctx->plan.refuse_status) {
        return ngx_http_dockline_refuse(r, ctx->plan.refuse_status);
    }

    if (ctx->plan.kind == DOCKLINE_REQUEST_STREAM) {
        return ngx_http_dockline_follow(r, ctx);
    }

    if (ctx->plan.whole_body_first) {
        return ngx_http_dockline_read_body(r, ctx);
    }

    return NGX_DECLINED;
}


static ngx_int_t
ngx_http_dockline_plan(ngx_http_request_t *r, ngx_http_dockline_ctx_t *ctx)
{
    ngx_http_core_loc_conf_t  *clcf;

    if (ngx_http_dockline_facts(r, &ctx->facts) != NGX_OK) {
        return NGX_ERROR;
    }

    /* "proxy_pass" with a URI replaces the prefix of the location */

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    if (!clcf->named
#if (NGX_PCRE)
        && clcf->regex == NULL
#endif
        && clcf->name.len > 1)
    {
        ctx->facts.base = ngx_http_dockline_str(&clcf->name);
    }

    if (ngx_http_dockline_make_plan(r, &ctx->facts, &ctx->plan) != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_log_debug4(NGX_LOG_DEBUG_HTTP, r->connection->log, 0,
                   "dockline request kind:%D upgrade:%D whole:%D refuse:%D",
                   ctx->plan.kind, ctx->plan.send_upgrade,
                   ctx->plan.whole_body_first, ctx->plan.refuse_status);

    return NGX_OK;
}


/* sets all facts except "base", the path the daemon is served at */

ngx_int_t
ngx_http_dockline_facts(ngx_http_request_t *r, dockline_request_facts *facts)
{
    ngx_str_t  value;

    facts->method = ngx_http_dockline_str(&r->method_name);

    /* "rewrite" invalidates what the client sent */

    facts->target = ngx_http_dockline_str(r->valid_unparsed_uri
                                          ? &r->unparsed_uri : &r->uri);

    if (ngx_http_dockline_find_header(r, &r->headers_in.headers, "upgrade",
                                      &value)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    facts->upgrade = ngx_http_dockline_str(&value);

    if (ngx_http_dockline_find_header(r, &r->headers_in.headers,
                                      "connection", &value)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    facts->connection = ngx_http_dockline_str(&value);

    if (r->http_version >= 3000) {
        facts->version = DOCKLINE_HTTP_30;

    } else if (r->http_version >= NGX_HTTP_VERSION_20) {
        facts->version = DOCKLINE_HTTP_20;

    } else if (r->http_version == NGX_HTTP_VERSION_11) {
        facts->version = DOCKLINE_HTTP_11;

    } else {
        facts->version = DOCKLINE_HTTP_10;
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_dockline_make_plan(ngx_http_request_t *r,
    dockline_request_facts *facts, dockline_request_plan *plan)
{
    dockline_status  status;

    status = dockline_request_plan_make(facts, sizeof(dockline_request_facts),
                                        plan, sizeof(dockline_request_plan));

    if (status != DOCKLINE_OK) {
        ngx_log_error(NGX_LOG_ALERT, r->connection->log, 0,
                      "dockline request plan failed: %s",
                      dockline_status_text(status));
        return NGX_ERROR;
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_dockline_find_header(ngx_http_request_t *r, ngx_list_t *headers,
    char *name, ngx_str_t *value)
{
    size_t            len;
    u_char           *p;
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    len = ngx_strlen(name);
    ngx_str_null(value);

    part = &headers->part;
    h = part->elts;

    for (i = 0; /* void */; i++) {

        if (i >= part->nelts) {
            if (part->next == NULL) {
                break;
            }

            part = part->next;
            h = part->elts;
            i = 0;
        }

        if (h[i].hash == 0
            || h[i].key.len != len
            || ngx_strncasecmp(h[i].key.data, (u_char *) name, len) != 0)
        {
            continue;
        }

        if (value->data == NULL) {
            *value = h[i].value;
            continue;
        }

        p = ngx_pnalloc(r->pool, value->len + 2 + h[i].value.len);
        if (p == NULL) {
            return NGX_ERROR;
        }

        value->len = ngx_sprintf(p, "%V, %V", value, &h[i].value) - p;
        value->data = p;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_dockline_refuse(ngx_http_request_t *r, ngx_uint_t status)
{
    ngx_str_t                 type;
    ngx_http_complex_value_t  cv;

    ngx_log_error(NGX_LOG_WARN, r->connection->log, 0,
                  "dockline refused \"%V %V\" with status %ui",
                  &r->method_name, &r->unparsed_uri, status);

    ngx_memzero(&cv, sizeof(ngx_http_complex_value_t));

    if (status == NGX_HTTP_NOT_IMPLEMENTED) {
        ngx_str_set(&cv.value, "{\"message\":\"this operation takes its "
                               "connection over, which needs HTTP/1.1; "
                               "disable HTTP/2 in the client or in "
                               "nginx\"}\n");

    } else {
        ngx_str_set(&cv.value, "{\"message\":\"method not allowed\"}\n");
        r->keepalive = 0;
    }

    ngx_str_set(&type, "application/json");

    ngx_http_finalize_request(r, ngx_http_send_response(r, status, &type,
                                                        &cv));
    return NGX_DONE;
}


static ngx_int_t
ngx_http_dockline_read_body(ngx_http_request_t *r,
    ngx_http_dockline_ctx_t *ctx)
{
    ngx_int_t  rc;

    /*
     * The daemon takes everything received after the request header for
     * input of the tunnel, even the rest of the request.  Once the body has
     * been read here, the proxy module sends it together with the header.
     */

    rc = ngx_http_dockline_bound_body(r);

    if (rc != NGX_OK) {
        return rc;
    }

    ctx->status = NGX_DONE;

    rc = ngx_http_read_client_request_body(r, ngx_http_dockline_body_handler);

    if (rc >= NGX_HTTP_SPECIAL_RESPONSE) {
        return rc;
    }

    ngx_http_finalize_request(r, NGX_DONE);

    return NGX_DONE;
}


static void
ngx_http_dockline_body_handler(ngx_http_request_t *r)
{
    ngx_http_dockline_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_dockline_module);

    ctx->status = NGX_DECLINED;

    r->write_event_handler = ngx_http_core_run_phases;
    ngx_http_core_run_phases(r);
}


/*
 * The body is read before the request is sent to the daemon, which would
 * reject a long one, and "client_max_body_size" is usually unlimited to allow
 * builds.
 */

static ngx_int_t
ngx_http_dockline_bound_body(ngx_http_request_t *r)
{
    ngx_http_core_loc_conf_t      *clcf;
    ngx_http_dockline_loc_conf_t  *dlcf;

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);
    dlcf = ngx_http_get_module_loc_conf(r, ngx_http_dockline_module);

    if (clcf->client_max_body_size
        && clcf->client_max_body_size <= NGX_HTTP_DOCKLINE_SWITCH_BODY)
    {
        return NGX_OK;
    }

    if (r->headers_in.content_length_n > NGX_HTTP_DOCKLINE_SWITCH_BODY) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "client intended to send too large body with a request "
                      "that takes its connection over: %O bytes",
                      r->headers_in.content_length_n);
        return NGX_HTTP_REQUEST_ENTITY_TOO_LARGE;
    }

    /* the size of a chunked body is checked by the core module */

    if (dlcf->switching == NULL) {

        clcf = ngx_http_dockline_copy_location(r, dlcf->pool,
                                               &dlcf->switching);
        if (clcf == NULL) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        clcf->client_max_body_size = NGX_HTTP_DOCKLINE_SWITCH_BODY;
    }

    r->loc_conf = dlcf->switching;

    return NGX_OK;
}


/*
 * A client may be paused by its pager while receiving a stream, and may wait
 * for the output of a command while uploading.
 */

static ngx_int_t
ngx_http_dockline_follow(ngx_http_request_t *r, ngx_http_dockline_ctx_t *ctx)
{
    void                        ***copy;
    ngx_http_core_loc_conf_t      *clcf;
    ngx_http_dockline_loc_conf_t  *dlcf;

    dlcf = ngx_http_get_module_loc_conf(r, ngx_http_dockline_module);
    copy = ctx->plan.body_may_pause ? &dlcf->uploading : &dlcf->following;

    if (*copy == NULL) {

        clcf = ngx_http_dockline_copy_location(r, dlcf->pool, copy);
        if (clcf == NULL) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        clcf->send_timeout = NGX_HTTP_DOCKLINE_FOREVER;

        if (ctx->plan.body_may_pause) {
            clcf->client_body_timeout = NGX_HTTP_DOCKLINE_FOREVER;
        }
    }

    r->loc_conf = *copy;

    return NGX_DECLINED;
}


/*
 * The core module uses its timeouts even after the request is freed,
 * so the copy is allocated from the configuration pool.
 */

static ngx_http_core_loc_conf_t *
ngx_http_dockline_copy_location(ngx_http_request_t *r, ngx_pool_t *pool,
    void ***copy)
{
    void                      **loc_conf;
    ngx_http_core_loc_conf_t   *clcf;

    loc_conf = ngx_palloc(pool, sizeof(void *) * ngx_http_max_module);
    if (loc_conf == NULL) {
        return NULL;
    }

    clcf = ngx_palloc(pool, sizeof(ngx_http_core_loc_conf_t));
    if (clcf == NULL) {
        return NULL;
    }

    ngx_memcpy(loc_conf, r->loc_conf, sizeof(void *) * ngx_http_max_module);
    ngx_memcpy(clcf, loc_conf[ngx_http_core_module.ctx_index],
               sizeof(ngx_http_core_loc_conf_t));

    loc_conf[ngx_http_core_module.ctx_index] = clcf;

    *copy = loc_conf;

    return clcf;
}


ngx_int_t
ngx_http_dockline_proxy_upgrade_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_http_dockline_ctx_t  *ctx;

    v->len = 0;
    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;
    v->data = (u_char *) "";

    ctx = ngx_http_get_module_ctx(r, ngx_http_dockline_module);

    if (ctx == NULL) {
        return NGX_OK;
    }

    if (ngx_http_dockline_arm(r, ctx) != NGX_OK) {
        return NGX_ERROR;
    }

    if (ctx->plan.send_upgrade) {
        v->len = ctx->facts.upgrade.len;
        v->data = (u_char *) ctx->facts.upgrade.data;
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_dockline_proxy_connection_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_str_t                      value;
    ngx_http_dockline_ctx_t       *ctx;
    ngx_http_dockline_loc_conf_t  *dlcf;

    ctx = ngx_http_get_module_ctx(r, ngx_http_dockline_module);
    dlcf = ngx_http_get_module_loc_conf(r, ngx_http_dockline_module);

#if (nginx_version >= 1029007)
    ngx_str_set(&value, "");
#else
    ngx_str_set(&value, "close");
#endif

    if (ctx && ctx->plan.send_upgrade) {
        ngx_str_set(&value, "Upgrade");

    } else if (dlcf->connection) {

        if (ngx_http_complex_value(r, dlcf->connection, &value) != NGX_OK) {
            return NGX_ERROR;
        }

        /* the usual websocket map, while the upgrade is not passed on */

        if (value.len == sizeof("upgrade") - 1
            && ngx_strncasecmp(value.data, (u_char *) "upgrade", value.len)
               == 0)
        {
            ngx_str_set(&value, "close");
        }
    }

    v->len = value.len;
    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;
    v->data = value.data;

    return NGX_OK;
}


static ngx_int_t
ngx_http_dockline_arm(ngx_http_request_t *r, ngx_http_dockline_ctx_t *ctx)
{
    ngx_http_upstream_t           *u;
    ngx_http_upstream_conf_t      *conf;
    ngx_http_dockline_loc_conf_t  *dlcf;

    /*
     * The proxy module evaluates the variable while creating the request,
     * when the upstream is set up, but not started yet.
     */

    u = r->upstream;

    if (ctx->armed || u == NULL || u->cleanup || u->state) {
        return NGX_OK;
    }

    ctx->armed = 1;

    conf = ngx_palloc(r->pool, sizeof(ngx_http_upstream_conf_t));
    if (conf == NULL) {
        return NGX_ERROR;
    }

    *conf = *u->conf;

    u->conf = conf;

    if (!u->store
        && !r->post_action
        && !conf->ignore_client_abort
        && r->http_version <= NGX_HTTP_VERSION_11)
    {
        ngx_http_dockline_watch(r, ctx);
    }

    if (ctx->plan.kind == DOCKLINE_REQUEST_ORDINARY) {
        return NGX_OK;
    }

    dlcf = ngx_http_get_module_loc_conf(r, ngx_http_dockline_module);

    if (!dlcf->read_timeout || ctx->plan.kind != DOCKLINE_REQUEST_COMMAND) {
        conf->read_timeout = NGX_HTTP_DOCKLINE_FOREVER;
    }

    if (!dlcf->send_timeout || ctx->plan.kind != DOCKLINE_REQUEST_COMMAND) {
        conf->send_timeout = NGX_HTTP_DOCKLINE_FOREVER;
    }

    /* the other sizes may stay, as nothing is buffered */

    if (dlcf->buffer_size == NGX_CONF_UNSET_SIZE
        && conf->buffer_size < NGX_HTTP_DOCKLINE_RESPONSE_BUFFER)
    {
        conf->buffer_size = NGX_HTTP_DOCKLINE_RESPONSE_BUFFER;
    }

    if (ctx->plan.kind == DOCKLINE_REQUEST_SWITCH) {
        ctx->process_header = u->process_header;
        u->process_header = ngx_http_dockline_process_header;

        ctx->reinit_request = u->reinit_request;
        u->reinit_request = ngx_http_dockline_reinit_request;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_dockline_process_header(ngx_http_request_t *r)
{
    ngx_int_t                 rc;
    ngx_http_upstream_t      *u;
    ngx_http_dockline_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_dockline_module);

    if (ctx == NULL) {
        return NGX_ERROR;
    }

    rc = ngx_http_dockline_call(r, ctx, ctx->process_header);

    if (rc == NGX_OK) {

        /*
         * Whatever the response, the client may have sent more than
         * the request, so the connection must not be reused.
         */

        u = r->upstream;

        u->headers_in.connection_close = 1;
        u->keepalive = 0;
    }

    return rc;
}


static ngx_int_t
ngx_http_dockline_reinit_request(ngx_http_request_t *r)
{
    ngx_http_dockline_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_dockline_module);

    if (ctx == NULL) {
        return NGX_ERROR;
    }

    return ngx_http_dockline_call(r, ctx, ctx->reinit_request);
}


/*
 * Both handlers of the proxy module set "u->process_header", one to proceed
 * from the status line to the headers, the other to start over.
 */

static ngx_int_t
ngx_http_dockline_call(ngx_http_request_t *r, ngx_http_dockline_ctx_t *ctx,
    ngx_int_t (*handler)(ngx_http_request_t *r))
{
    ngx_int_t             rc;
    ngx_http_upstream_t  *u;

    rc = handler(r);

    u = r->upstream;

    if (u->process_header != ngx_http_dockline_process_header) {
        ctx->process_header = u->process_header;
        u->process_header = ngx_http_dockline_process_header;
    }

    return rc;
}
