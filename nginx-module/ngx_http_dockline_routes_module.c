
/* SPDX-License-Identifier: MIT */


/*
 * Where a request goes is looked up by its host and path, in a file that
 * another process replaces when containers come and go.  Each worker has its
 * own copy, so that no request waits for anything.
 */


#include "ngx_http_dockline.h"


/* the same as the router of the gateway says */
#define NGX_HTTP_DOCKLINE_RETRY_AFTER  "2"


struct ngx_http_dockline_routes_file_s {
    ngx_str_t                        path;

    /* of this worker */
    dockline_routes                 *routes;
    ngx_uint_t                       failed;
};


typedef struct {
    ngx_array_t                      files;
                                   /* of ngx_http_dockline_routes_file_t * */
} ngx_http_dockline_routes_main_conf_t;


typedef struct {
    ngx_http_dockline_routes_file_t *file;
} ngx_http_dockline_routes_loc_conf_t;


static ngx_int_t ngx_http_dockline_routes_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_dockline_routes_retry_after(ngx_http_request_t *r);
static ngx_int_t ngx_http_dockline_routes_look_up(ngx_http_request_t *r,
    ngx_http_dockline_routes_ctx_t *ctx, ngx_http_dockline_routes_file_t *file);
static void ngx_http_dockline_routes_check(
    ngx_http_dockline_routes_file_t *file, ngx_log_t *log);
static ngx_int_t ngx_http_dockline_routes_copy(ngx_http_request_t *r,
    ngx_str_t *dst, const dockline_str *src);
static ngx_int_t ngx_http_dockline_routes_copy_targets(ngx_http_request_t *r,
    ngx_http_dockline_routes_ctx_t *ctx, dockline_routes_target *target);
static ngx_int_t ngx_http_dockline_routes_set_uri(ngx_http_request_t *r,
    ngx_http_dockline_routes_ctx_t *ctx, size_t prefix_len);
static void ngx_http_dockline_routes_cleanup(void *data);
static ngx_int_t ngx_http_dockline_routes_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);

static char *ngx_http_dockline_routes(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static ngx_int_t ngx_http_dockline_routes_preconfiguration(ngx_conf_t *cf);
static ngx_int_t ngx_http_dockline_routes_postconfiguration(ngx_conf_t *cf);
static void *ngx_http_dockline_routes_create_main_conf(ngx_conf_t *cf);
static void *ngx_http_dockline_routes_create_loc_conf(ngx_conf_t *cf);
static char *ngx_http_dockline_routes_merge_loc_conf(ngx_conf_t *cf,
    void *parent, void *child);
static ngx_int_t ngx_http_dockline_routes_init_process(ngx_cycle_t *cycle);
static void ngx_http_dockline_routes_exit_process(ngx_cycle_t *cycle);


static ngx_command_t  ngx_http_dockline_routes_commands[] = {

    { ngx_string("dockline_routes"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_dockline_routes,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("dockline_targets"),
      NGX_HTTP_UPS_CONF|NGX_CONF_NOARGS,
      ngx_http_dockline_targets,
      0,
      0,
      NULL },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_dockline_routes_module_ctx = {
    ngx_http_dockline_routes_preconfiguration,  /* preconfiguration */
    ngx_http_dockline_routes_postconfiguration, /* postconfiguration */

    ngx_http_dockline_routes_create_main_conf,  /* create main configuration */
    NULL,                                       /* init main configuration */

    NULL,                                  /* create server configuration */
    NULL,                                  /* merge server configuration */

    ngx_http_dockline_routes_create_loc_conf,   /* create location config */
    ngx_http_dockline_routes_merge_loc_conf     /* merge location config */
};


ngx_module_t  ngx_http_dockline_routes_module = {
    NGX_MODULE_V1,
    &ngx_http_dockline_routes_module_ctx,  /* module context */
    ngx_http_dockline_routes_commands,     /* module directives */
    NGX_HTTP_MODULE,                       /* module type */
    NULL,                                  /* init master */
    NULL,                                  /* init module */
    ngx_http_dockline_routes_init_process, /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    ngx_http_dockline_routes_exit_process, /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


static ngx_http_variable_t  ngx_http_dockline_routes_vars[] = {

    { ngx_string("dockline_upstream"), NULL,
      ngx_http_dockline_routes_variable,
      offsetof(ngx_http_dockline_routes_ctx_t, upstream),
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("dockline_route_name"), NULL,
      ngx_http_dockline_routes_variable,
      offsetof(ngx_http_dockline_routes_ctx_t, name),
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("dockline_prefix"), NULL,
      ngx_http_dockline_routes_variable,
      offsetof(ngx_http_dockline_routes_ctx_t, prefix),
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("dockline_uri"), NULL,
      ngx_http_dockline_routes_variable,
      offsetof(ngx_http_dockline_routes_ctx_t, uri),
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

      ngx_http_null_variable
};


static ngx_int_t
ngx_http_dockline_routes_handler(ngx_http_request_t *r)
{
    ngx_http_dockline_routes_ctx_t       *ctx;
    ngx_http_dockline_routes_loc_conf_t  *drlcf;

    drlcf = ngx_http_get_module_loc_conf(r, ngx_http_dockline_routes_module);

    /* error pages and subrequests need not have a route of their own */

    if (drlcf->file == NULL || r->error_page || r != r->main) {
        return NGX_DECLINED;
    }

    ctx = ngx_http_dockline_routes_find(r);

    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    switch (ctx->status) {

    case NGX_HTTP_OK:
        return NGX_DECLINED;

    case NGX_HTTP_NOT_FOUND:
        ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                      "no route for host \"%V\" and path \"%V\" in \"%V\"",
                      &r->headers_in.server, &r->unparsed_uri,
                      &ctx->file->path);
        break;

    default: /* NGX_HTTP_SERVICE_UNAVAILABLE */

        if (ctx->name.len) {
            ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                          "route \"%V\" has no live target", &ctx->name);

        } else {
            ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                          "no routes could be read from \"%V\"",
                          &ctx->file->path);
        }

        if (ngx_http_dockline_routes_retry_after(r) != NGX_OK) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
    }

    return ctx->status;
}


/* Error pages keep it, unlike what add_header sets here. */

static ngx_int_t
ngx_http_dockline_routes_retry_after(ngx_http_request_t *r)
{
    ngx_table_elt_t  *h;

    h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    ngx_memzero(h, sizeof(ngx_table_elt_t));

    h->hash = 1;
    ngx_str_set(&h->key, "Retry-After");
    ngx_str_set(&h->value, NGX_HTTP_DOCKLINE_RETRY_AFTER);

    return NGX_OK;
}


/*
 * Looks a request up once, also if it is redirected internally.  NULL if it
 * could not be, or if this location has no routes.
 */

ngx_http_dockline_routes_ctx_t *
ngx_http_dockline_routes_find(ngx_http_request_t *r)
{
    ngx_pool_cleanup_t                   *cln;
    ngx_http_dockline_routes_ctx_t       *ctx;
    ngx_http_dockline_routes_loc_conf_t  *drlcf;

    drlcf = ngx_http_get_module_loc_conf(r, ngx_http_dockline_routes_module);

    if (drlcf->file == NULL) {
        return NULL;
    }

    ctx = ngx_http_get_module_ctx(r, ngx_http_dockline_routes_module);

    if (ctx == NULL) {

        /* a redirect clears the context, and a subrequest has its own one */

        for (cln = r->pool->cleanup; cln; cln = cln->next) {
            if (cln->handler == ngx_http_dockline_routes_cleanup) {
                ctx = cln->data;
                break;
            }
        }
    }

    if (ctx == NULL) {
        cln = ngx_pool_cleanup_add(r->pool,
                                   sizeof(ngx_http_dockline_routes_ctx_t));
        if (cln == NULL) {
            return NULL;
        }

        cln->handler = ngx_http_dockline_routes_cleanup;
        ctx = cln->data;
        ctx->file = NULL;
    }

    ngx_http_set_ctx(r, ctx, ngx_http_dockline_routes_module);

    if (ctx->file != drlcf->file) {
        ngx_memzero(ctx, sizeof(ngx_http_dockline_routes_ctx_t));

        if (ngx_http_dockline_routes_look_up(r, ctx, drlcf->file) != NGX_OK) {
            return NULL;
        }
    }

    return ctx;
}


static ngx_int_t
ngx_http_dockline_routes_look_up(ngx_http_request_t *r,
    ngx_http_dockline_routes_ctx_t *ctx, ngx_http_dockline_routes_file_t *file)
{
    dockline_str            host, path;
    dockline_status         status;
    dockline_routes_target  target;

    ngx_http_dockline_routes_check(file, r->connection->log);

    /* as the client has sent it, which is what is passed on */

    host = ngx_http_dockline_str(&r->headers_in.server);
    path = ngx_http_dockline_str(&r->unparsed_uri);

    status = dockline_routes_lookup(file->routes, host, path, &target,
                                    sizeof(dockline_routes_target));

    if (status != DOCKLINE_OK) {
        ngx_log_error(NGX_LOG_ALERT, r->connection->log, 0,
                      "dockline_routes_lookup() failed (%s)",
                      dockline_status_name(status));
        return NGX_ERROR;
    }

    switch ((enum dockline_routes_result) target.result) {

    case DOCKLINE_ROUTES_FOUND:
        ctx->status = NGX_HTTP_OK;
        break;

    case DOCKLINE_ROUTES_UNKNOWN:
        ctx->status = NGX_HTTP_NOT_FOUND;
        break;

    case DOCKLINE_ROUTES_NO_TARGET:
    case DOCKLINE_ROUTES_NOT_LOADED:
        ctx->status = NGX_HTTP_SERVICE_UNAVAILABLE;
        break;
    }

    if (ngx_http_dockline_routes_copy(r, &ctx->name, &target.name) != NGX_OK
        || ngx_http_dockline_routes_copy_targets(r, ctx, &target) != NGX_OK
        || ngx_http_dockline_routes_set_uri(r, ctx, target.strip
                                                    ? target.prefix_len : 0)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    ctx->file = file;

    return NGX_OK;
}


/* What was found lives only until the next file is read. */

static ngx_int_t
ngx_http_dockline_routes_copy(ngx_http_request_t *r, ngx_str_t *dst,
    const dockline_str *src)
{
    dst->len = src->len;

    if (src->len == 0) {
        return NGX_OK;
    }

    dst->data = ngx_pnalloc(r->pool, src->len);
    if (dst->data == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(dst->data, src->data, src->len);

    return NGX_OK;
}


static ngx_int_t
ngx_http_dockline_routes_copy_targets(ngx_http_request_t *r,
    ngx_http_dockline_routes_ctx_t *ctx, dockline_routes_target *target)
{
    size_t  i;

    if (target->upstream.len == 0) {
        return NGX_OK;
    }

    ctx->ntargets = 1 + target->other_count;

    ctx->targets = ngx_pcalloc(r->pool, ctx->ntargets * sizeof(ngx_str_t));
    if (ctx->targets == NULL) {
        return NGX_ERROR;
    }

    if (ngx_http_dockline_routes_copy(r, &ctx->targets[0], &target->upstream)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    for (i = 0; i < target->other_count; i++) {
        if (ngx_http_dockline_routes_copy(r, &ctx->targets[1 + i],
                                          &target->others[i])
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    ctx->upstream = ctx->targets[0];

    return NGX_OK;
}


/* The URI as the client has sent it, byte by byte, but for the prefix. */

static ngx_int_t
ngx_http_dockline_routes_set_uri(ngx_http_request_t *r,
    ngx_http_dockline_routes_ctx_t *ctx, size_t prefix_len)
{
    u_char     *p;
    ngx_str_t   rest;

    ctx->prefix.data = r->unparsed_uri.data;
    ctx->prefix.len = prefix_len;

    rest.data = r->unparsed_uri.data + prefix_len;
    rest.len = r->unparsed_uri.len - prefix_len;

    if (rest.len && rest.data[0] == '/') {
        ctx->uri = rest;
        return NGX_OK;
    }

    p = ngx_pnalloc(r->pool, 1 + rest.len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    ctx->uri.data = p;
    ctx->uri.len = 1 + rest.len;

    *p++ = '/';
    ngx_memcpy(p, rest.data, rest.len);

    return NGX_OK;
}


static void
ngx_http_dockline_routes_cleanup(void *data)
{
    /* by this handler the context is found again */
}


static void
ngx_http_dockline_routes_check(ngx_http_dockline_routes_file_t *file,
    ngx_log_t *log)
{
    int32_t                change;
    ngx_uint_t             level;
    dockline_status        status;
    dockline_routes_state  state;

    status = dockline_routes_check(file->routes, ngx_current_msec, &change);

    if (status == DOCKLINE_OK && change == DOCKLINE_ROUTES_UNCHANGED) {
        return;
    }

    if (status == DOCKLINE_OK) {
        status = dockline_routes_state_view(file->routes, &state,
                                            sizeof(dockline_routes_state));
    }

    if (status != DOCKLINE_OK) {
        ngx_log_error(NGX_LOG_ALERT, log, 0,
                      "dockline_routes_check() failed (%s)",
                      dockline_status_name(status));
        return;
    }

    if (change == DOCKLINE_ROUTES_FAILED) {
        file->failed = 1;

        ngx_log_error(NGX_LOG_ERR, log, 0,
                      "routes \"%V\" cannot be read: %*s; %s", &file->path,
                      state.problem.len, state.problem.data,
                      state.loaded ? "those that were read before are used"
                                   : "requests get 503 until they can");
        return;
    }

    level = file->failed ? NGX_LOG_NOTICE : NGX_LOG_INFO;
    file->failed = 0;

    ngx_log_error(level, log, 0, "routes \"%V\" were read: %uL of them, "
                  "generation %uL", &file->path, state.count,
                  state.generation);
}


static ngx_int_t
ngx_http_dockline_routes_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_str_t                            *value;
    ngx_http_dockline_routes_ctx_t       *ctx;
    ngx_http_dockline_routes_loc_conf_t  *drlcf;

    drlcf = ngx_http_get_module_loc_conf(r, ngx_http_dockline_routes_module);

    if (drlcf->file == NULL) {
        v->not_found = 1;
        return NGX_OK;
    }

    ctx = ngx_http_dockline_routes_find(r);

    if (ctx == NULL) {
        return NGX_ERROR;
    }

    value = (ngx_str_t *) ((char *) ctx + data);

    if (value->len == 0) {
        v->not_found = 1;
        return NGX_OK;
    }

    v->len = value->len;
    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;
    v->data = value->data;

    return NGX_OK;
}


static char *
ngx_http_dockline_routes(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_dockline_routes_loc_conf_t *drlcf = conf;

    ngx_str_t                              path, *value;
    ngx_uint_t                             i;
    ngx_http_dockline_routes_file_t       *file, **files;
    ngx_http_dockline_routes_main_conf_t  *drmcf;

    if (drlcf->file != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "off") == 0) {
        drlcf->file = NULL;
        return NGX_CONF_OK;
    }

    if (value[1].len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "empty path in \"%V\" directive", &cmd->name);
        return NGX_CONF_ERROR;
    }

    path = value[1];

    if (ngx_conf_full_name(cf->cycle, &path, 0) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    drmcf = ngx_http_conf_get_module_main_conf(cf,
                                              ngx_http_dockline_routes_module);
    files = drmcf->files.elts;

    for (i = 0; i < drmcf->files.nelts; i++) {
        if (files[i]->path.len == path.len
            && ngx_strncmp(files[i]->path.data, path.data, path.len) == 0)
        {
            drlcf->file = files[i];
            return NGX_CONF_OK;
        }
    }

    files = ngx_array_push(&drmcf->files);
    if (files == NULL) {
        return NGX_CONF_ERROR;
    }

    file = ngx_pcalloc(cf->pool, sizeof(ngx_http_dockline_routes_file_t));
    if (file == NULL) {
        return NGX_CONF_ERROR;
    }

    file->path = path;

    *files = file;
    drlcf->file = file;

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_dockline_routes_preconfiguration(ngx_conf_t *cf)
{
    ngx_http_variable_t  *var, *v;

    for (v = ngx_http_dockline_routes_vars; v->name.len; v++) {
        var = ngx_http_add_variable(cf, &v->name, v->flags);
        if (var == NULL) {
            return NGX_ERROR;
        }

        var->get_handler = v->get_handler;
        var->data = v->data;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_dockline_routes_postconfiguration(ngx_conf_t *cf)
{
    ngx_http_handler_pt        *h;
    ngx_http_core_main_conf_t  *cmcf;

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    /* after access control, which does not depend on the route */

    h = ngx_array_push(&cmcf->phases[NGX_HTTP_PRECONTENT_PHASE].handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    *h = ngx_http_dockline_routes_handler;

    return NGX_OK;
}


static void *
ngx_http_dockline_routes_create_main_conf(ngx_conf_t *cf)
{
    ngx_http_dockline_routes_main_conf_t  *conf;

    conf = ngx_pcalloc(cf->pool, sizeof(ngx_http_dockline_routes_main_conf_t));
    if (conf == NULL) {
        return NULL;
    }

    if (ngx_array_init(&conf->files, cf->pool, 1,
                       sizeof(ngx_http_dockline_routes_file_t *))
        != NGX_OK)
    {
        return NULL;
    }

    return conf;
}


static void *
ngx_http_dockline_routes_create_loc_conf(ngx_conf_t *cf)
{
    ngx_http_dockline_routes_loc_conf_t  *conf;

    conf = ngx_palloc(cf->pool, sizeof(ngx_http_dockline_routes_loc_conf_t));
    if (conf == NULL) {
        return NULL;
    }

    conf->file = NGX_CONF_UNSET_PTR;

    return conf;
}


static char *
ngx_http_dockline_routes_merge_loc_conf(ngx_conf_t *cf, void *parent,
    void *child)
{
    ngx_http_dockline_routes_loc_conf_t *prev = parent;
    ngx_http_dockline_routes_loc_conf_t *conf = child;

    ngx_conf_merge_ptr_value(conf->file, prev->file, NULL);

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_dockline_routes_init_process(ngx_cycle_t *cycle)
{
    ngx_uint_t                              i;
    dockline_status                         status;
    dockline_routes_options                 options;
    ngx_http_dockline_routes_file_t       **files;
    ngx_http_dockline_routes_main_conf_t   *drmcf;

    drmcf = ngx_http_cycle_get_module_main_conf(cycle,
                                               ngx_http_dockline_routes_module);

    if (drmcf == NULL || ngx_process == NGX_PROCESS_HELPER) {
        return NGX_OK;
    }

    files = drmcf->files.elts;

    for (i = 0; i < drmcf->files.nelts; i++) {

        ngx_memzero(&options, sizeof(dockline_routes_options));

        options.path = ngx_http_dockline_str(&files[i]->path);

        status = dockline_routes_new(&options, sizeof(dockline_routes_options),
                                     &files[i]->routes);

        if (status != DOCKLINE_OK) {
            ngx_log_error(NGX_LOG_EMERG, cycle->log, 0,
                          "dockline_routes_new() failed (%s)",
                          dockline_status_name(status));
            return NGX_ERROR;
        }

        ngx_http_dockline_routes_check(files[i], cycle->log);
    }

    return NGX_OK;
}


static void
ngx_http_dockline_routes_exit_process(ngx_cycle_t *cycle)
{
    ngx_uint_t                              i;
    ngx_http_dockline_routes_file_t       **files;
    ngx_http_dockline_routes_main_conf_t   *drmcf;

    drmcf = ngx_http_cycle_get_module_main_conf(cycle,
                                               ngx_http_dockline_routes_module);

    if (drmcf == NULL) {
        return;
    }

    files = drmcf->files.elts;

    for (i = 0; i < drmcf->files.nelts; i++) {
        dockline_routes_free(files[i]->routes);
        files[i]->routes = NULL;
    }
}
