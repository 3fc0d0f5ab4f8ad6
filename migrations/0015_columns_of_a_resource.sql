-- Each run reads the columns of its resource.
create index columns_by_resource on rosterd.columns (resource_id);

create or replace view rosterd.schema_version as select 15 as version;
