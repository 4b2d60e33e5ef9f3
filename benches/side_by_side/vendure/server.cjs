// A Vendure shop with one product, as its own tools set it up: settings of production, on the Postgres of PGHOST, PGPORT, PGUSER and
// PGDATABASE. An order holds its stock once its payment is authorized, which is what Vendure does by default.
const { bootstrap, DefaultLogger, dummyPaymentHandler, LanguageCode, LogLevel } = require('@vendure/core');
const { populate } = require('@vendure/core/cli');
const { writeFileSync } = require('node:fs');
const { tmpdir } = require('node:os');
const { join } = require('node:path');

const { PGHOST, PGPORT, PGUSER, PGDATABASE, SHOP_PORT, SHOP_STOCK, SHOP_POOL } = process.env;

const config = {
  apiOptions: { hostname: '127.0.0.1', port: Number(SHOP_PORT), shopApiPath: 'shop-api', adminApiPath: 'admin-api' },
  authOptions: {
    tokenMethod: 'bearer',
    superadminCredentials: { identifier: 'superadmin', password: 'a rehearsal only' },
    requireVerification: false,
  },
  dbConnectionOptions: {
    type: 'postgres', host: PGHOST, port: Number(PGPORT), username: PGUSER, database: PGDATABASE,
    synchronize: true, logging: false, extra: { max: Number(SHOP_POOL) },
  },
  paymentOptions: { paymentMethodHandlers: [dummyPaymentHandler] },
  logger: new DefaultLogger({ level: LogLevel.Error }),
};

const initialData = {
  defaultLanguage: LanguageCode.en,
  defaultZone: 'Europe',
  countries: [{ name: 'Austria', code: 'AT', zone: 'Europe' }],
  taxRates: [{ name: 'Standard Tax', percentage: 20 }],
  shippingMethods: [{ name: 'Standard Shipping', price: 500 }],
  paymentMethods: [
    {
      name: 'Sandbox',
      handler: { code: dummyPaymentHandler.code, arguments: [{ name: 'automaticSettle', value: 'false' }] },
    },
  ],
  collections: [],
};

const products = `name,slug,description,assets,facets,optionGroups,optionValues,sku,price,taxCategory,stockOnHand,trackInventory,variantAssets,variantFacets
Rehearsal,rehearsal,One product,,,,,R1,19.99,standard,${SHOP_STOCK},true,,
`;

async function main() {
  const file = join(tmpdir(), `vendure-products-${process.pid}.csv`);
  writeFileSync(file, products);
  const first = await populate(() => bootstrap(config), initialData, file);
  await first.close();
  await bootstrap(config);
  console.log(`listening on http://127.0.0.1:${SHOP_PORT}`);
}

main().catch(error => {
  console.error(error);
  process.exit(1);
});
