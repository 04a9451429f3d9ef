
/* SPDX-License-Identifier: MIT */


/*
 * Changes the configuration of the proxy module before the module merges it.
 * The structure is private, but the offsets of its fields are available from
 * the table of directives.
 */


#include "ngx_http_dockline.h"


#define ngx_http_dockline_slot(conf, offset, type)                            \
    ((type *) ((char *) (conf) + (offset)))


typedef char *(*ngx_http_dockline_set_pt)(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);


static ngx_int_t ngx_http_dockline_proxy_offset(ngx_conf_t *cf, char *name,
    ngx_http_dockline_set_pt set, size_t *offset);
static void ngx_http_dockline_proxy_timeouts(ngx_conf_t *cf,
    ngx_http_upstream_conf_t *ucf, ngx_http_dockline_loc_conf_t *prev,
    ngx_http_dockline_loc_conf_t *conf);
static char *ngx_http_dockline_proxy_check(ngx_conf_t *cf,
    ngx_http_dockline_loc_conf_t *conf);
static ngx_int_t ngx_http_dockline_proxy_headers(ngx_conf_t *cf,
    ngx_http_dockline_loc_conf_t *conf, ngx_array_t **headers);


extern ngx_module_t  ngx_http_proxy_module;


static ngx_keyval_t  ngx_http_dockline_headers[] = {
    { ngx_string("Upgrade"), ngx_string("$dockline_proxy_upgrade") },
    { ngx_string("Connection"), ngx_string("$dockline_proxy_connection") },
    { ngx_string("HTTP2-Settings"), ngx_string("") }
};


ngx_int_t
ngx_http_dockline_proxy_init(ngx_conf_t *cf,
    ngx_http_dockline_main_conf_t *dmcf, ngx_http_dockline_loc_conf_t *dlcf)
{
    void                      *plcf;
    size_t                     offset;
    ngx_array_t               *headers;
    ngx_http_upstream_conf_t  *ucf;

    if (ngx_http_dockline_proxy_offset(cf, "proxy_set_header",
                                       ngx_conf_set_keyval_slot,
                                       &dmcf->headers)
        != NGX_OK
        || ngx_http_dockline_proxy_offset(cf, "proxy_http_version",
                                          ngx_conf_set_enum_slot,
                                          &dmcf->http_version)
           != NGX_OK
        || ngx_http_dockline_proxy_offset(cf, "proxy_request_buffering",
                                          ngx_conf_set_flag_slot,
                                          &dmcf->request_buffering)
           != NGX_OK
        || ngx_http_dockline_proxy_offset(cf, "proxy_connect_timeout",
                                          ngx_conf_set_msec_slot, &offset)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    dmcf->upstream = offset
                     - offsetof(ngx_http_upstream_conf_t, connect_timeout);

    plcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_proxy_module);

    headers = *ngx_http_dockline_slot(plcf, dmcf->headers, ngx_array_t *);

    dlcf->headers = (headers == NGX_CONF_UNSET_PTR) ? NULL : headers;

    dlcf->http_version = *ngx_http_dockline_slot(plcf, dmcf->http_version,
                                                 ngx_uint_t);
    dlcf->request_buffering = *ngx_http_dockline_slot(plcf,
                                          dmcf->request_buffering, ngx_flag_t);

    ucf = ngx_http_dockline_slot(plcf, dmcf->upstream,
                                 ngx_http_upstream_conf_t);

    dlcf->store = (ucf->store == 1);
#if (NGX_HTTP_CACHE)
    dlcf->cache = (ucf->cache == 1);
#endif

    dlcf->buffer_size = ucf->buffer_size;

    return NGX_OK;
}


static ngx_int_t
ngx_http_dockline_proxy_offset(ngx_conf_t *cf, char *name,
    ngx_http_dockline_set_pt set, size_t *offset)
{
    ngx_command_t  *cmd;

    for (cmd = ngx_http_proxy_module.commands; cmd->name.len; cmd++) {

        if (ngx_strcmp(cmd->name.data, name) == 0 && cmd->set == set) {
            *offset = cmd->offset;
            return NGX_OK;
        }
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "the dockline module does not know the \"%s\" "
                       "directive of this proxy module", name);

    return NGX_ERROR;
}


char *
ngx_http_dockline_proxy_merge(ngx_conf_t *cf,
    ngx_http_dockline_main_conf_t *dmcf, ngx_http_dockline_loc_conf_t *prev,
    ngx_http_dockline_loc_conf_t *conf)
{
    void                       *plcf;
    ngx_uint_t                 *http_version;
    ngx_flag_t                 *request_buffering;
    ngx_array_t               **headers;
    ngx_http_upstream_conf_t   *ucf;

    plcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_proxy_module);

    headers = ngx_http_dockline_slot(plcf, dmcf->headers, ngx_array_t *);
    http_version = ngx_http_dockline_slot(plcf, dmcf->http_version,
                                          ngx_uint_t);
    request_buffering = ngx_http_dockline_slot(plcf, dmcf->request_buffering,
                                               ngx_flag_t);
    ucf = ngx_http_dockline_slot(plcf, dmcf->upstream,
                                 ngx_http_upstream_conf_t);

    conf->headers = (*headers == NGX_CONF_UNSET_PTR) ? prev->headers
                                                     : *headers;
    conf->http_version = (*http_version == NGX_CONF_UNSET_UINT)
                         ? prev->http_version : *http_version;
    conf->request_buffering = (*request_buffering == NGX_CONF_UNSET)
                              ? prev->request_buffering : *request_buffering;

    conf->store = (ucf->store == NGX_CONF_UNSET) ? prev->store : ucf->store;
#if (NGX_HTTP_CACHE)
    conf->cache = (ucf->cache == NGX_CONF_UNSET) ? prev->cache : ucf->cache;
#endif

    conf->buffer_size = (ucf->buffer_size == NGX_CONF_UNSET_SIZE)
                        ? prev->buffer_size : ucf->buffer_size;

    ngx_http_dockline_proxy_timeouts(cf, ucf, prev, conf);

    if (!conf->enable) {

        if (prev->injected) {

            /* the proxy module must not inherit what is for the parent */

            *headers = conf->headers;

#if (nginx_version >= 1029007)
            *http_version = (conf->http_version == NGX_CONF_UNSET_UINT)
                            ? NGX_HTTP_VERSION_11 : conf->http_version;
#else
            *http_version = (conf->http_version == NGX_CONF_UNSET_UINT)
                            ? NGX_HTTP_VERSION_10 : conf->http_version;
#endif

            *request_buffering = (conf->request_buffering != 0);
        }

        return NGX_CONF_OK;
    }

    if (ngx_http_dockline_proxy_check(cf, conf) != NGX_CONF_OK) {
        return NGX_CONF_ERROR;
    }

    if (prev->injected && *headers == NGX_CONF_UNSET_PTR) {
        conf->connection = prev->connection;

    } else if (ngx_http_dockline_proxy_headers(cf, conf, headers) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    if (conf->http_version == NGX_CONF_UNSET_UINT) {
        *http_version = NGX_HTTP_VERSION_11;
    }

    /* our handler buffers requests that may become tunnels */

    *request_buffering = (conf->request_buffering == 1);

    conf->injected = 1;

    return NGX_CONF_OK;
}


/*
 * A timeout set for the whole server is not meant for Docker, which has no
 * such limit; one set in the location is.
 */

static void
ngx_http_dockline_proxy_timeouts(ngx_conf_t *cf,
    ngx_http_upstream_conf_t *ucf, ngx_http_dockline_loc_conf_t *prev,
    ngx_http_dockline_loc_conf_t *conf)
{
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (clcf->name.len == 0) {
        return;
    }

    conf->read_timeout = (prev->read_timeout
                          || ucf->read_timeout != NGX_CONF_UNSET_MSEC);
    conf->send_timeout = (prev->send_timeout
                          || ucf->send_timeout != NGX_CONF_UNSET_MSEC);
}


static char *
ngx_http_dockline_proxy_check(ngx_conf_t *cf,
    ngx_http_dockline_loc_conf_t *conf)
{
    char                      *reason, *directive;
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (clcf->handler == NULL) {
        return NGX_CONF_OK;
    }

    if (conf->buffer_size < NGX_HTTP_DOCKLINE_RESPONSE_NEEDED) {
        ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                           "\"proxy_buffer_size\" of %uz bytes in location "
                           "\"%V\" is too small for some responses of "
                           "Docker, such as to \"docker cp\"; remove it "
                           "or set it to at least 16k",
                           conf->buffer_size, &clcf->name);
    }

    if (conf->cache) {
        directive = "proxy_cache";
        reason = "a connection that is taken over cannot be cached";

    } else if (conf->store) {
        directive = "proxy_store";
        reason = "a connection that is taken over cannot be stored";

    } else if (conf->http_version != NGX_CONF_UNSET_UINT
               && conf->http_version > NGX_HTTP_VERSION_11)
    {
        directive = "proxy_http_version 2";
        reason = "only HTTP/1 connections can be taken over";

    } else {
        return NGX_CONF_OK;
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "\"dockline on\" conflicts with \"%s\" in location "
                       "\"%V\": %s", directive, &clcf->name, reason);

    return NGX_CONF_ERROR;
}


static ngx_int_t
ngx_http_dockline_proxy_headers(ngx_conf_t *cf,
    ngx_http_dockline_loc_conf_t *conf, ngx_array_t **headers)
{
    ngx_uint_t                         i, j, n;
    ngx_array_t                       *array;
    ngx_keyval_t                      *src, *dst;
    ngx_http_compile_complex_value_t   ccv;

    n = sizeof(ngx_http_dockline_headers) / sizeof(ngx_keyval_t);

    array = ngx_array_create(cf->pool,
                             n + (conf->headers ? conf->headers->nelts : 0),
                             sizeof(ngx_keyval_t));
    if (array == NULL) {
        return NGX_ERROR;
    }

    for (i = 0; conf->headers && i < conf->headers->nelts; i++) {

        src = (ngx_keyval_t *) conf->headers->elts + i;

        for (j = 0; j < n; j++) {
            if (src->key.len == ngx_http_dockline_headers[j].key.len
                && ngx_strncasecmp(src->key.data,
                                   ngx_http_dockline_headers[j].key.data,
                                   src->key.len)
                   == 0)
            {
                break;
            }
        }

        if (j == n) {
            dst = ngx_array_push(array);
            if (dst == NULL) {
                return NGX_ERROR;
            }

            *dst = *src;
            continue;
        }

        if (src->key.len != sizeof("Connection") - 1) {
            continue;
        }

        /* the value for requests that do not propose a switch */

        conf->connection = ngx_palloc(cf->pool,
                                      sizeof(ngx_http_complex_value_t));
        if (conf->connection == NULL) {
            return NGX_ERROR;
        }

        ngx_memzero(&ccv, sizeof(ngx_http_compile_complex_value_t));

        ccv.cf = cf;
        ccv.value = &src->value;
        ccv.complex_value = conf->connection;

        if (ngx_http_compile_complex_value(&ccv) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    for (j = 0; j < n; j++) {
        dst = ngx_array_push(array);
        if (dst == NULL) {
            return NGX_ERROR;
        }

        *dst = ngx_http_dockline_headers[j];
    }

    *headers = array;

    return NGX_OK;
}
