// What the builder of JupyterLab's extensions does not do by itself: read TypeScript. Types are checked by `npm run types`.
const path = require("path");

module.exports = {
  resolveLoader: { modules: [path.join(__dirname, "builder/node_modules")] },
  resolve: { extensions: [".ts", ".tsx", ".js", ".json"] },
  module: {
    rules: [
      {
        test: /\.tsx?$/,
        loader: "builtin:swc-loader",
        options: {
          jsc: {
            parser: { syntax: "typescript", tsx: true },
            transform: { react: { runtime: "classic" } },
            target: "es2020",
          },
        },
        type: "javascript/auto",
      },
    ],
  },
};
