export { default } from './index'

export const getServerSideProps = async () => {
  await new Promise((resolve) => setTimeout(resolve, 30))
  return { props: { pid: process.pid } }
}
